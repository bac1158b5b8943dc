"""Images decoded once, into a cache that all processes of a node map."""

import json
import logging
import os
import shutil
import time
from pathlib import Path

import numpy as np

from oialr_hpo.tasks.cache import locked
from oialr_hpo.tasks.image_classification.decoding import DAMAGE
from oialr_hpo.tasks.image_classification.image_arrays import ImageArrays
from oialr_hpo.tasks.image_classification.layouts import Source
from oialr_hpo.tasks.task import DataError

log = logging.getLogger(__name__)


def cached(name: str, cache: Path, source: Source) -> ImageArrays:
    """The images of a source, decoded by the first process that asks for them.

    Raises:
        DataError: the files are damaged, or the cache cannot be written.
    """
    entry = cache / name
    if not entry.is_dir():
        with locked(cache):
            if not entry.is_dir():
                _write(entry, source)
    return ImageArrays(
        np.load(entry / "images.npy", mmap_mode="r"),
        np.load(entry / "labels.npy"),
        tuple(json.loads((entry / "classes.json").read_text())),
    )


def _write(entry: Path, source: Source) -> None:
    start = time.perf_counter()
    try:
        images, labels, classes = source.decode()
    except DAMAGE as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise DataError(f"{_place(source)} cannot be decoded ({reason}); fetch it again") from error
    partial_entry = entry.with_name("partial")
    try:
        shutil.rmtree(partial_entry, ignore_errors=True)
        partial_entry.mkdir()
        np.save(partial_entry / "images.npy", images)
        np.save(partial_entry / "labels.npy", labels)
        (partial_entry / "classes.json").write_text(json.dumps(classes))
        os.replace(partial_entry, entry)
    except OSError as error:
        raise DataError(f"cannot write the decoded images to {entry} ({error}); set OIALR_CACHE") from error
    seconds = time.perf_counter() - start
    log.info("decoded %d images of %s into %s in %.1f s", len(images), _place(source), entry, seconds)


def _place(source: Source) -> Path:
    return source.files[0] if len(source.files) == 1 else Path(os.path.commonpath(source.files))
