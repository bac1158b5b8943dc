"""The Electricity Transformer Temperature data (Zhou et al., Informer, AAAI 2021) under Autoformer's protocol."""

import gzip
import hashlib
import io
import logging
import os
import tempfile
import urllib.request
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oialr_hpo.tasks.cache import cache_directory
from oialr_hpo.tasks.forecasting.calendar import Times
from oialr_hpo.tasks.forecasting.series import Series
from oialr_hpo.tasks.task import DataError

ETT_URL = "https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small"
ETT_MD5 = {
    "ETTh1": "8381763947c85f4be6ac456c508460d6",
    "ETTh2": "51a229a3fc13579dd939364fefe9c7ab",
    "ETTm1": "82d6bd89109c63d075d99c1077b33f38",
    "ETTm2": "7687e47825335860bf58bccb31be0c56",
}
ETT_COLUMNS = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
MONTH = 30 * 24  # hours
DOWNLOAD_SECONDS = 60
log = logging.getLogger(__name__)


def ett_freq(dataset: str) -> str:
    """Every quarter of an hour, or every hour."""
    return "t" if dataset.startswith("ETTm") else "h"


def load_ett(dataset: str, data_dir: Path | None = None) -> Series:
    """Load ETTh1, ETTh2, ETTm1 or ETTm2.

    The file is looked for as `<name>.csv` or `<name>.csv.gz` in `data_dir`, then in the cache, and else
    downloaded into the cache. Training has 12 months of 30 days, validation and testing 4 each.

    Raises:
        DataError: nothing found and no network, or not the official file.
    """
    (path,) = find_ett(dataset, data_dir).values()
    times, values = parse_ett(_official(path, dataset), path)
    freq = ett_freq(dataset)
    rows_per_hour = 4 if freq == "t" else 1
    month = MONTH * rows_per_hour
    return Series(values, times, freq, (12 * month, 4 * month, 4 * month), ETT_COLUMNS)


def find_ett(dataset: str, data_dir: Path | None = None) -> dict[str, Path]:
    """The file of an ETT series by its name, downloaded where there is none.

    Raises:
        DataError: nothing found and no network.
    """
    if data_dir is not None and not data_dir.is_dir():
        raise DataError(f"data directory {data_dir} does not exist; create it, or omit it to fetch {dataset}")
    path = _find(dataset, data_dir)
    return {path.name: path}


def parse_ett(content: bytes, path: Path) -> tuple[Times, NDArray[np.float64]]:
    """Times and (rows, 7) values of an ETT file's content.

    Raises:
        DataError: the columns are others or a row cannot be read.
    """
    header, _, body = content.decode("utf-8", errors="replace").partition("\n")
    columns = header.strip().split(",")
    if columns != ["date", *ETT_COLUMNS]:
        raise DataError(f"{path} has the columns {','.join(columns)}, not date,{','.join(ETT_COLUMNS)}")
    row = np.dtype([("time", "U19"), ("values", np.float64, len(ETT_COLUMNS))])
    try:
        rows = np.loadtxt(io.StringIO(body), dtype=row, delimiter=",", ndmin=1)
        return rows["time"].astype("datetime64[s]"), rows["values"]
    except ValueError as error:
        raise DataError(f"{path} cannot be read ({error}); fetch it again from {ETT_URL}") from None


def _find(dataset: str, data_dir: Path | None) -> Path:
    cache = cache_directory(data_dir)
    for directory in (data_dir, cache):
        for name in (f"{dataset}.csv", f"{dataset}.csv.gz"):
            if directory is not None and (directory / name).is_file():
                return directory / name
    return _download(dataset, cache, data_dir or cache)


def _official(path: Path, dataset: str) -> bytes:
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read ({error}); fetch it again from {ETT_URL}") from None
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if md5 != ETT_MD5[dataset]:
        raise DataError(
            f"{path} is not the official {dataset}.csv (md5 {md5}, not {ETT_MD5[dataset]}); "
            f"replace it by {ETT_URL}/{dataset}.csv"
        )
    return content


def _download(dataset: str, cache: Path, place: Path) -> Path:
    """Fetch a file into the cache; processes that do so at once write the same file, each in one move."""
    url = f"{ETT_URL}/{dataset}.csv"
    target = cache / f"{dataset}.csv"
    log.info("downloading %s into %s", url, cache)
    try:
        with urllib.request.urlopen(url, timeout=DOWNLOAD_SECONDS) as response:
            content = response.read()
        cache.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=cache, prefix=f"{dataset}-")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(partial, target)
    except OSError as error:
        raise DataError(
            f"{dataset} is neither in {place} nor could it be downloaded ({error}); "
            f"put {dataset}.csv or {dataset}.csv.gz from {url} into {place}"
        ) from None
    return target
