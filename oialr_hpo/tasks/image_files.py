"""Images in folders, a class each: which there are, whether they can be read, and their pixels."""

import difflib
import os
import re
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from oialr_hpo.mistake import one_line, reason
from oialr_hpo.tasks import DataError

PARTS = ("train", "val")
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2", ".j2k", ".jpx"),
    *(".avif", ".heic", ".heif", ".jxl"),  # where the installed Pillow reads them
)
NO_CLASSES = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found")
DECODED_BYTES = 2**30
"""Images of so many bytes in all are decoded before a training; of more, beginnings and ends are looked at."""
CHUNK, SHOWN, SHOWN_LENGTH = 256, 3, 60


@dataclass(frozen=True)
class ImageTree:
    """The images below a directory with train/ and val/.

    Attributes:
        root: the directory.
        classes: the folders of train/, in natural order (class2 before class10).
        files: paths by part, sorted by class and then name.
        labels: indices into `classes` by part, for each file.
        notes: what a user should know of, a line each.
    """

    root: Path
    classes: tuple[str, ...]
    files: dict[str, list[str]]
    labels: dict[str, list[int]]
    notes: tuple[str, ...]


def find_tree(root: Path) -> ImageTree:
    """The images of ROOT/train/CLASS and ROOT/val/CLASS, at any depth below these, links followed.

    The folders of train/ are the classes of both parts. Hidden files and folders, what archives and file managers leave
    behind, and files without the suffix of an image are none of them.

    Raises:
        DataError: a part without class folders, a class without training images, a class that only val/ has, or a
            folder that cannot be read.
    """
    found, notes = {}, []
    for part in PARTS:
        folders, stray = _folders(root / part)
        if not folders:
            beside = f" but {len(stray)} images" if stray else ""
            raise DataError(f"{root / part} holds no class directories{beside}; put CLASS/*.JPEG there")
        if stray:
            notes.append(f"{root / part}: {_named(stray)} in no class directory, left out")
        found[part] = folders
    classes = tuple(sorted(found["train"], key=_natural))
    if empty := [name for name in classes if not found["train"][name]]:
        raise DataError(
            f"{root / 'train'}: no images in {_named(empty)}; put some there (.jpeg, .png, .webp ...), or remove it"
        )
    if unknown := sorted(found["val"].keys() - found["train"].keys(), key=_natural):
        near = difflib.get_close_matches(unknown[0], classes, n=1)
        hint = f"rename it to {_named(near)}, " if near else ""
        raise DataError(f"{root / 'val'}: {_named(unknown)} not among the classes of train/; {hint}or remove it")
    if absent := [name for name in classes if not found["val"].get(name)]:
        if len(absent) == len(classes):
            raise DataError(f"{root / 'val'}: no images in any class directory; put some there")
        notes.append(f"{root / 'val'}: no images of {_named(absent)}, of {len(classes)} classes in train/")
    return ImageTree(
        root,
        classes,
        {part: [file for name in classes for file in found[part].get(name, ())] for part in PARTS},
        {part: [i for i, name in enumerate(classes) for _ in found[part].get(name, ())] for part in PARTS},
        tuple(notes),
    )


def check_readable(tree: ImageTree) -> None:
    """Look for damaged images: decode them all, or of large data sets those that end too early.

    Raises:
        DataError: some cannot be read; the message counts them and names the first ones.
    """
    files = list(chain.from_iterable(tree.files.values()))
    chunks = [files[i : i + CHUNK] for i in range(0, len(files), CHUNK)]
    with ThreadPoolExecutor(min(32, 4 * len(os.sched_getaffinity(0)))) as pool:
        decode = sum(pool.map(_bytes, chunks)) <= DECODED_BYTES
        damaged = list(chain.from_iterable(pool.map(lambda chunk: [f for f in chunk if _damaged(f, decode)], chunks)))
    if damaged:
        names = _named([os.path.relpath(file, tree.root) for file in damaged])
        raise DataError(
            f"{tree.root}: {len(damaged)} of {len(files)} images cannot be read: {names}; replace or remove them"
        )


def read_rgb(file: str) -> Image.Image:
    """An image in RGB, upright as its EXIF orientation says, transparency over white.

    16 bits a pixel become 8 by their full range; floating-point values count as shares of 1, 255 or 65535, the smallest
    that holds them.

    Raises:
        DataError: it is damaged, of an unknown format, or too large for Pillow's limit.
    """
    try:
        with Image.open(file) as image:
            return _rgb(image)
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads them to
        why = one_line(reason(error), SHOWN_LENGTH)
        raise DataError(f"{one_line(file, 2 * SHOWN_LENGTH)} cannot be read ({why}); replace or remove it") from None


def _folders(directory: Path) -> tuple[dict[str, list[str]], list[str]]:
    """The images of each class folder, and the names of the images beside these."""
    folders: dict[str, list[str]] = {}
    stray = []
    try:
        for entry in sorted(os.scandir(directory), key=lambda entry: entry.name) if directory.is_dir() else ():
            name = unicodedata.normalize("NFC", entry.name)  # as one file system writes an umlaut, and as another
            if _hidden(name):
                continue
            if _is_image(name) and not entry.is_dir():
                stray.append(name)
            elif entry.is_dir() or not os.path.exists(entry.path):  # a link to nowhere is a class without images
                folders.setdefault(name, []).extend(_images(entry.path) if entry.is_dir() else ())
    except OSError as error:
        raise DataError(f"{_named([str(error.filename or directory)])}: {error.strerror}; mend that") from None
    return folders, stray


def _images(folder: str) -> list[str]:
    found = []
    visited = {str(parent) for parent in Path(os.path.realpath(folder)).parents}

    def fail(error: OSError) -> None:
        raise error

    for directory, folders, files in os.walk(folder, followlinks=True, onerror=fail):
        real = os.path.realpath(directory)
        if real in visited:
            folders.clear()  # a link that leads back
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not _hidden(name))
        found += [os.path.join(directory, name) for name in files if _is_image(name) and not _hidden(name)]
    return sorted(found, key=_natural)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in NO_CLASSES


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES


def _natural(name: str) -> tuple[list[str | int], str]:
    """Sorts numbers inside names by their value."""
    parts = re.split(r"(\d+)", name.lower())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def _named(names: Sequence[str]) -> str:
    """The first names, fit for one line."""
    shown = [one_line(name, SHOWN_LENGTH) for name in names[:SHOWN]]
    return ", ".join(shown) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _bytes(files: Sequence[str]) -> int:
    return sum(os.path.getsize(file) for file in files if os.path.exists(file))


def _damaged(file: str, decode: bool) -> bool:
    try:
        if decode or not _ends_as_it_begins(file):
            with Image.open(file) as image:
                image.draft("RGB", (32, 32))  # reads all of a JPEG, at less cost
                _rgb(image)
    except Exception:
        return True
    return False


def _ends_as_it_begins(file: str) -> bool:
    """Whether a JPEG or PNG file is closed by its last marker."""
    with open(file, "rb") as content:
        start = content.read(4)
        content.seek(-min(12, os.path.getsize(file)), os.SEEK_END)
        end = content.read()
    jpeg = start.startswith(b"\xff\xd8\xff") and end.endswith(b"\xff\xd9")
    return jpeg or (start == b"\x89PNG" and end == b"\0\0\0\0IEND\xaeB`\x82")


def _rgb(image: Image.Image) -> Image.Image:
    image.load()
    with suppress(Exception):  # of damaged EXIF; the pixels are sound
        image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        transparent = image.convert("RGBA")
        image = Image.new("RGBA", image.size, "white")
        image.alpha_composite(transparent)
    return image.convert("RGB")


def _eight_bits(pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    values = np.nan_to_num(pixels.astype(np.float64))
    tops = (65535.0, 2.0**31 - 1) if pixels.dtype.kind in "iu" else (1.0, 255.0, 65535.0)
    top = next((top for top in tops if values.max() <= top), values.max())
    return np.rint(255 / top * np.clip(values, 0, None)).astype(np.uint8)
