"""Labelled images as uint8 arrays: decoded once, memory-mapped, shared by all processes of a node."""

import fcntl
import hashlib
import importlib.util
import io
import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from oialr_hpo import tasks
from oialr_hpo.mistake import Mistake
from oialr_hpo.tasks import DataError

Split = Literal["train", "test"]
PngEntry = tuple[str, str, Callable[[], bytes]]  # class, file name, read
Decoded = tuple[NDArray[np.uint8], NDArray[np.int64], tuple[str, ...]]

DOWNLOAD_SECONDS = 600
DIGITS_TEST_FRACTION = 0.2
DAMAGE = (
    OSError, EOFError, LookupError, SyntaxError, TypeError, ValueError,
    pickle.UnpicklingError, tarfile.TarError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageArrays:
    """One split of a data set, sorted by class and file name.

    Attributes:
        images: (N, H, W, C) uint8, read-only; a `numpy.memmap` unless the data set is tiny.
        labels: (N,) int64, indices into `classes`.
        classes: names, in alphabetical order.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Archive:
    """The official distribution of a data set."""

    folder: str
    train: str
    test: str
    meta: str
    labels: str
    label_names: str
    classes: int
    torchvision: str

    @property
    def tar(self) -> str:
        return self.folder.removesuffix("-batches-py").removesuffix("-python") + "-python.tar.gz"


ARCHIVES = {
    "cifar10": Archive(
        folder="cifar-10-batches-py",
        train="data_batch_*",
        test="test_batch",
        meta="batches.meta",
        labels="labels",
        label_names="label_names",
        classes=10,
        torchvision="CIFAR10",
    ),
    "cifar100": Archive(
        folder="cifar-100-python",
        train="train",
        test="test",
        meta="meta",
        labels="fine_labels",
        label_names="fine_label_names",
        classes=100,
        torchvision="CIFAR100",
    ),
}
DATASETS = (*ARCHIVES, "digits")


def load_images(dataset: str, split: Split, data_dir: Path | None = None) -> ImageArrays:
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
        return _digits(split)
    source = _locate(dataset, split, data_dir)
    return _cached(f"{dataset}-{split}-{source.key()}", cache_directory(data_dir), source)


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


def _locate(dataset: str, split: Split, data_dir: Path | None) -> "Source":
    if dataset not in ARCHIVES:
        raise DataError(f"data set {dataset!r} is unknown; choose one of {', '.join(DATASETS)}")
    if data_dir is not None and not data_dir.is_dir():
        raise DataError(f"data directory {data_dir} does not exist; create it, or omit it to fetch {dataset}")
    cache = cache_directory(data_dir)
    source = find_source(dataset, split, data_dir) or find_source(dataset, split, cache)
    if source is None:
        _download(dataset, data_dir, cache)
        source = find_source(dataset, split, cache)
        assert source is not None
    return source


def cache_directory(data_dir: Path | None) -> Path:
    """Where decoded arrays and downloads are kept: OIALR_CACHE, else beside the data, else the user's cache.

    A `data_dir` without any write permission counts as read-only for root as well.
    """
    if os.environ.get("OIALR_CACHE"):
        return Path(os.environ["OIALR_CACHE"]).expanduser()
    if data_dir is not None and data_dir.stat().st_mode & 0o222 and os.access(data_dir, os.W_OK):
        return data_dir / ".oialr_cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "oialr_hpo"


def stratified_split(labels: ArrayLike, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hold out round(`fraction` * N) of N samples, of each class its share (largest remainder).

    The draw depends on labels, fraction and seed alone, not on the platform or NumPy's version.

    Returns:
        (training indices, held-out indices), both ascending; together they are 0..N-1.

    Raises:
        ValueError: the fraction is outside [0, 1).
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"fraction {fraction} to hold out is outside [0, 1)")
    labels = np.asarray(labels)
    held_out = stratified_subset(labels, round(fraction * len(labels)), seed)
    return np.setdiff1d(np.arange(len(labels)), held_out, assume_unique=True), held_out


def stratified_subset(labels: ArrayLike, count: int, seed: int) -> NDArray[np.int64]:
    """Draw `count` samples, of each class its share (largest remainder); ascending indices.

    Raises:
        ValueError: `count` is negative or exceeds the samples.
    """
    labels = np.asarray(labels)
    if not 0 <= count <= len(labels):
        raise ValueError(f"cannot draw {count} of {len(labels)} samples")
    # RandomState's stream is frozen for good (NEP 19), the one of Generator is not.
    order = np.argsort(np.random.RandomState(seed).random_sample(len(labels)), kind="stable")
    classes, sizes = np.unique(labels, return_counts=True)
    quota, remainder = np.divmod(sizes * count, max(len(labels), 1))
    quota[np.argsort(-remainder, kind="stable")[: count - quota.sum()]] += 1
    drawn = [order[labels[order] == c][:n] for c, n in zip(classes, quota, strict=True)]
    return np.sort(np.concatenate([*drawn, np.empty(0, np.int64)])).astype(np.int64)


def split_for(
    labels: ArrayLike, split: tasks.Split, validation_fraction: float, train_images: int | None, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which training images are trained on, and which are held out for validation.

    A search trains on those that are not held out. For the split `test` all are trained on, since nothing is selected
    any more. `train_images` of them, of each class its share, make a smaller set.

    Raises:
        Mistake: no images are left for one of the two, or fewer than `train_images`.
    """
    labels = np.asarray(labels)
    training, held_out = stratified_split(labels, validation_fraction, seed)
    if split == "test":
        training = np.arange(len(labels))
    elif not (len(training) and len(held_out)):
        part, remedy = ("validation", "raise") if len(training) else ("training", "lower")
        share = f"data.validation_fraction {validation_fraction} of {len(labels)} images"
        raise Mistake(f"{share} leaves none for {part}; {remedy} it")
    if train_images is not None:
        if train_images > len(training):
            raise Mistake(f"data.train_images {train_images} exceeds the {len(training)} training images; lower it")
        training = training[stratified_subset(labels[training], train_images, seed)]
    return training, held_out


@dataclass(frozen=True)
class Source:
    """Files below a directory that hold one split, and how to decode them."""

    directory: Path
    files: list[Path]
    decode: Callable[[], Decoded]

    def key(self) -> str:
        """Changes with the name, size or modification time of any file."""
        digest = hashlib.sha256()
        for path in self.files:
            status = path.stat()
            digest.update(f"{path.absolute()}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        return digest.hexdigest()[:16]


def find_source(dataset: str, split: Split, directory: Path | None) -> Source | None:
    """The first layout of a CIFAR data set that a directory holds, None where there is none."""
    if directory is None:
        return None
    archive = ARCHIVES[dataset]
    batches = sorted((directory / archive.folder).glob(getattr(archive, split)))
    if batches:
        meta = directory / archive.folder / archive.meta
        if not meta.is_file():
            raise DataError(f"{meta} is missing; unpack the official {archive.tar} again")
        return Source(
            directory,
            [*batches, meta],
            lambda: _decode_batches(archive, [f.read_bytes() for f in batches], meta.read_bytes()),
        )
    tar = directory / archive.tar
    if tar.is_file():
        return Source(directory, [tar], partial(_decode_tar, archive, split, tar))
    pngs = sorted(png for png in (directory / split).glob("*/*.png") if not _hidden(png.parts[-2:]))
    if pngs:
        entries: list[PngEntry] = [(file.parent.name, file.name, file.read_bytes) for file in pngs]
        return Source(directory, pngs, lambda: _decode_pngs(archive, entries))
    zips = sorted(directory.glob(f"{dataset}-{split}*.zip"))
    if zips:
        return Source(directory, zips, partial(_decode_zips, archive, split, zips))
    return None


def _cached(name: str, cache: Path, source: Source) -> ImageArrays:
    entry = cache / name
    if not entry.is_dir():
        with _lock(cache):
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


@contextmanager
def _lock(cache: Path) -> Iterator[None]:
    """Hold the cache's lock; the kernel frees it when the holder dies."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        file = open(cache / "lock", "a")  # noqa: SIM115
    except OSError as error:
        raise DataError(f"cannot write to the cache {cache} ({error}); set OIALR_CACHE") from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _decode_pngs(archive: Archive, entries: list[PngEntry]) -> Decoded:
    from PIL.PngImagePlugin import PngImageFile

    entries = sorted(entries, key=lambda entry: entry[:2])
    classes = tuple(sorted({entry[0] for entry in entries}))
    if len(classes) != archive.classes:
        raise ValueError(f"{len(classes)} classes instead of {archive.classes}")
    label = {name: i for i, name in enumerate(classes)}
    labels = np.array([label[entry[0]] for entry in entries], np.int64)
    images = np.empty((len(entries), 32, 32, 3), np.uint8)
    # One thread: PIL holds the interpreter's lock for most of such a small image, and two threads are slower.
    for i, (directory, name, read) in enumerate(entries):
        png = PngImageFile(io.BytesIO(read()))
        if png.size != (32, 32):
            raise ValueError(f"{directory}/{name} is not 32 x 32")
        pixels = png if png.mode == "RGB" else png.convert("RGB")
        images[i] = np.frombuffer(pixels.tobytes(), np.uint8).reshape(32, 32, 3)
    return images, labels, classes


def _decode_zips(archive: Archive, split: Split, paths: list[Path]) -> Decoded:
    zips = [zipfile.ZipFile(path) for path in paths]
    try:
        entries: list[PngEntry] = []
        for file in zips:
            for name in file.namelist():
                parts = name.split("/")
                if len(parts) == 3 and parts[0] == split and name.endswith(".png") and not _hidden(parts):
                    entries.append((parts[1], parts[2], partial(file.read, name)))
        return _decode_pngs(archive, entries)
    finally:
        for file in zips:
            file.close()


def _hidden(parts: Sequence[str]) -> bool:
    """What file managers and archives add, such as ._cat.png."""
    return any(part.startswith(".") for part in parts)


def _decode_tar(archive: Archive, split: Split, path: Path) -> Decoded:
    with tarfile.open(path) as tar:
        members = {}
        for member in tar:
            name = Path(member.name)
            if member.isfile() and (name.match(getattr(archive, split)) or name.name == archive.meta):
                file = tar.extractfile(member)
                assert file is not None
                members[name.name] = file.read()
    meta = members.pop(archive.meta)
    return _decode_batches(archive, [members[name] for name in sorted(members)], meta)


def _decode_batches(archive: Archive, batches: list[bytes], meta: bytes) -> Decoded:
    """Decode the official pickles: rows of 3072 values, channels first."""
    if not batches:
        raise ValueError("no batch of this split in it")
    classes = tuple(_unpickle(meta)[archive.label_names])
    contents = [_unpickle(batch) for batch in batches]
    rows = np.concatenate([np.asarray(content["data"], np.uint8) for content in contents])
    labels = np.concatenate([np.asarray(content[archive.labels], np.int64) for content in contents])
    names = [name for c in contents for name in c.get("filenames", [""] * len(c[archive.labels]))]
    images = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    order = sorted(range(len(labels)), key=lambda i: (labels[i], names[i]))
    return images[order], labels[order], classes


def _unpickle(content: bytes) -> dict[str, Any]:
    """A batch; its Python 2 strings become text."""

    def text(value: Any) -> Any:
        if isinstance(value, list):
            return [text(item) for item in value]
        return value.decode() if isinstance(value, bytes) else value

    loaded = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
    return {text(key): text(value) for key, value in loaded.items()}


class _ArrayUnpickler(pickle.Unpickler):
    """Reads arrays and plain values; a pickle that names anything else to be called is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode") or (
            module.split(".")[0] == "numpy" and name in ("_reconstruct", "_frombuffer", "ndarray", "dtype")
        ):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no CIFAR batch does")


def _download(dataset: str, data_dir: Path | None, cache: Path) -> None:
    """Let torchvision download the official archive into the cache, once for all processes."""
    archive = ARCHIVES[dataset]
    failure = cache / f"{dataset}.download-failed"
    waiting_since = time.time()
    with _lock(cache):
        if find_source(dataset, "train", cache) and find_source(dataset, "test", cache):
            return
        if failure.exists() and failure.stat().st_mtime >= waiting_since:
            raise DataError(failure.read_text())
        program = (
            "import socket, sys, torchvision; socket.setdefaulttimeout(20); "
            f"torchvision.datasets.{archive.torchvision}(sys.argv[1], download=True)"
        )
        log.info("downloading %s into %s", dataset, cache)
        shutil.rmtree(partial_download := cache / "partial-download", ignore_errors=True)
        try:
            partial_download.mkdir()
            subprocess.run(
                [sys.executable, "-c", program, str(partial_download)],
                check=True,
                capture_output=True,
                text=True,
                timeout=DOWNLOAD_SECONDS,
            )
            os.replace(partial_download / archive.folder, cache / archive.folder)
        except (OSError, subprocess.SubprocessError) as error:
            lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            message = (
                f"{dataset} is neither in {data_dir or cache} nor could it be downloaded ({lines[-1][:50]}); put there "
                f"train/<class>/*.png and test/<class>/*.png, or {archive.tar} from www.cs.toronto.edu/~kriz/cifar.html"
            )
            failure.write_text(message)
            raise DataError(message) from None
        finally:
            shutil.rmtree(partial_download, ignore_errors=True)


def _digits(split: Split) -> ImageArrays:
    """Reads scikit-learn's file without importing the package, which would cost every training process a second."""
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise DataError("digits comes with scikit-learn, which is not installed; pip install scikit-learn")
    file = Path(package.origin).with_name("datasets") / "data" / "digits.csv.gz"
    try:
        table = np.loadtxt(file, delimiter=",")
    except DAMAGE as error:
        raise DataError(f"{file} cannot be read ({error}); install scikit-learn again") from error
    values, labels = table[:, :-1], table[:, -1].astype(np.int64)
    train, test = stratified_split(labels, DIGITS_TEST_FRACTION, seed=0)
    chosen = train if split == "train" else test
    chosen = chosen[np.argsort(labels[chosen], kind="stable")]
    images = np.rint(values[chosen] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    images.flags.writeable = False
    return ImageArrays(images, labels[chosen], tuple(str(digit) for digit in range(10)))
