"""Data sets by name, as uint8 arrays: decoded once, memory-mapped, shared by all processes of a node."""

from pathlib import Path

from oialr_hpo.tasks.cache import cache_directory
from oialr_hpo.tasks.image_classification.caching import cached
from oialr_hpo.tasks.image_classification.cifar import ARCHIVES
from oialr_hpo.tasks.image_classification.digits import load_digits
from oialr_hpo.tasks.image_classification.download import download
from oialr_hpo.tasks.image_classification.image_arrays import ImageArrays, Part
from oialr_hpo.tasks.image_classification.layouts import Source, find_source
from oialr_hpo.tasks.task import DataError

DATASETS = (*ARCHIVES, "digits")


def load_images(dataset: str, split: Part, data_dir: Path | None = None) -> ImageArrays:
    """Load one split of `cifar10`, `cifar100` or `digits`.

    CIFAR is looked for in `data_dir` as the official archive (`cifar-10-batches-py/` or
    `cifar-10-python.tar.gz`), a tree `train/<class>/*.png`, or zip files of such trees
    (`cifar10-train-*.zip`, `cifar10-test.zip`; some of the training shards make a smaller data set), and is
    downloaded by torchvision otherwise. All layouts give the same arrays. They are decoded once, into
    `.oialr_cache` under `data_dir`, or `~/.cache/oialr_hpo` where that is read-only; the environment
    variable OIALR_CACHE names another directory. `digits` (scikit-learn's 1,797 handwritten digits, 8 x 8,
    one channel, 0..16 scaled to 0..255, a fixed stratified fifth for testing) needs no files.

    Raises:
        DataError: no such data set, nothing found and no network, or damaged files.
    """
    if split not in ("train", "test"):
        raise DataError(f"split {split!r} is unknown; choose train or test")
    if dataset == "digits":
        return load_digits(split)
    source = _locate(dataset, split, data_dir)
    return cached(f"{dataset}-{split}-{source.key()}", cache_directory(data_dir), source)


def find_images(dataset: str, data_dir: Path | None = None) -> dict[str, Path]:
    """The files of both splits by their names below a data directory, found or downloaded as by `load_images`.

    The test split may be missing; `digits` has no files.

    Raises:
        DataError: nothing found and no network.
    """
    if dataset == "digits":
        return {}
    training = _locate(dataset, "train", data_dir)
    test = find_source(dataset, "test", training.directory)
    files = [*training.files, *(test.files if test else ())]
    return {str(file.relative_to(training.directory)): file for file in files}


def _locate(dataset: str, split: Part, data_dir: Path | None) -> Source:
    if dataset not in ARCHIVES:
        raise DataError(f"data set {dataset!r} is unknown; choose one of {', '.join(DATASETS)}")
    if data_dir is not None and not data_dir.is_dir():
        raise DataError(f"data directory {data_dir} does not exist; create it, or omit it to fetch {dataset}")
    cache = cache_directory(data_dir)
    source = find_source(dataset, split, data_dir) or find_source(dataset, split, cache)
    if source is None:
        download(dataset, data_dir, cache)
        source = find_source(dataset, split, cache)
        assert source is not None
    return source
