"""Time series by name: the ETT data and an electrocardiogram."""

from pathlib import Path

from oialr_hpo.tasks.forecasting.ecg import load_ecg
from oialr_hpo.tasks.forecasting.ett import ETT_COLUMNS, ETT_MD5, ett_freq, find_ett, load_ett
from oialr_hpo.tasks.forecasting.series import Series
from oialr_hpo.tasks.task import DataError

DATASETS = (*ETT_MD5, "ecg")


def load_series(dataset: str, data_dir: Path | None = None) -> Series:
    """Load ETTh1, ETTh2, ETTm1, ETTm2 or ecg, which needs no file of its own.

    Raises:
        DataError: no such series, nothing found and no network, or not the official file.
    """
    if dataset not in DATASETS:
        raise DataError(f"data set {dataset!r} is unknown; choose one of {', '.join(DATASETS)}")
    return load_ecg() if dataset == "ecg" else load_ett(dataset, data_dir)


def shape_of_series(dataset: str) -> tuple[int, str]:
    """Channels and sampling frequency of a series, without its file."""
    return (1, "s") if dataset == "ecg" else (len(ETT_COLUMNS), ett_freq(dataset))


def find_series(dataset: str, data_dir: Path | None = None) -> dict[str, Path]:
    """The file of an ETT series by its name, downloaded where there is none; empty for `ecg`.

    Raises:
        DataError: nothing found and no network.
    """
    return {} if dataset == "ecg" else find_ett(dataset, data_dir)
