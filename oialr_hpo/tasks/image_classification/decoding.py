"""CIFAR's files decoded: PNG images in folders or zip files, or the official pickles.

Whatever is wrong with them raises one of `DAMAGE`.
"""

import io
import pickle
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oialr_hpo.tasks.image_classification.cifar import Archive
from oialr_hpo.tasks.image_classification.image_arrays import Part

PngEntry = tuple[str, str, Callable[[], bytes]]
"""A class, a file's name, and how to read it."""
Decoded = tuple[NDArray[np.uint8], NDArray[np.int64], tuple[str, ...]]
"""Images (N, 32, 32, 3), labels (N,) and the classes' names, sorted by class and file name."""
DAMAGE = (
    OSError, EOFError, LookupError, SyntaxError, TypeError, ValueError,
    pickle.UnpicklingError, tarfile.TarError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def decode_pngs(archive: Archive, entries: list[PngEntry]) -> Decoded:
    """Decode images of 32 x 32 pixels, of all classes of a data set."""
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


def decode_zips(archive: Archive, split: Part, paths: list[Path]) -> Decoded:
    """Decode the images SPLIT/CLASS/*.png of zip files."""
    zips = [zipfile.ZipFile(path) for path in paths]
    try:
        entries: list[PngEntry] = []
        for file in zips:
            for name in file.namelist():
                parts = name.split("/")
                if len(parts) == 3 and parts[0] == split and name.endswith(".png") and not is_hidden(parts):
                    entries.append((parts[1], parts[2], partial(file.read, name)))
        return decode_pngs(archive, entries)
    finally:
        for file in zips:
            file.close()


def is_hidden(parts: Sequence[str]) -> bool:
    """What file managers and archives add, such as ._cat.png."""
    return any(part.startswith(".") for part in parts)


def decode_tar(archive: Archive, split: Part, path: Path) -> Decoded:
    """Decode the official pickles in their tar file."""
    with tarfile.open(path) as tar:
        members = {}
        for member in tar:
            name = Path(member.name)
            if member.isfile() and (name.match(getattr(archive, split)) or name.name == archive.meta):
                file = tar.extractfile(member)
                assert file is not None
                members[name.name] = file.read()
    meta = members.pop(archive.meta)
    return decode_batches(archive, [members[name] for name in sorted(members)], meta)


def decode_batches(archive: Archive, batches: list[bytes], meta: bytes) -> Decoded:
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
