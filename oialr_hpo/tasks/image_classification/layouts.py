"""In which layouts a directory may hold CIFAR."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from oialr_hpo.tasks.image_classification.cifar import ARCHIVES
from oialr_hpo.tasks.image_classification.decoding import (
    Decoded,
    PngEntry,
    decode_batches,
    decode_pngs,
    decode_tar,
    decode_zips,
    is_hidden,
)
from oialr_hpo.tasks.image_classification.image_arrays import Part
from oialr_hpo.tasks.task import DataError


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


def find_source(dataset: str, split: Part, directory: Path | None) -> Source | None:
    """The first layout of a CIFAR data set that a directory holds, None where there is none.

    Raises:
        DataError: the official folder lacks its names of classes.
    """
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
            lambda: decode_batches(archive, [f.read_bytes() for f in batches], meta.read_bytes()),
        )
    tar = directory / archive.tar
    if tar.is_file():
        return Source(directory, [tar], partial(decode_tar, archive, split, tar))
    pngs = sorted(png for png in (directory / split).glob("*/*.png") if not is_hidden(png.parts[-2:]))
    if pngs:
        entries: list[PngEntry] = [(file.parent.name, file.name, file.read_bytes) for file in pngs]
        return Source(directory, pngs, lambda: decode_pngs(archive, entries))
    zips = sorted(directory.glob(f"{dataset}-{split}*.zip"))
    if zips:
        return Source(directory, zips, partial(decode_zips, archive, split, zips))
    return None
