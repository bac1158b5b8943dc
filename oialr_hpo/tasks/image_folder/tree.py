"""Images in folders, a class each: which there are."""

import difflib
import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from oialr_hpo.mistake import one_line
from oialr_hpo.tasks.task import DataError

PARTS = ("train", "val")
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2", ".j2k", ".jpx"),
    *(".avif", ".heic", ".heif", ".jxl"),  # where the installed Pillow reads them
)
NO_CLASSES = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found")
SHOWN, SHOWN_LENGTH = 3, 60
"""Names in a message, and characters of each."""


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
            notes.append(f"{root / part}: {named(stray)} in no class directory, left out")
        found[part] = folders
    classes = tuple(sorted(found["train"], key=_natural))
    if empty := [name for name in classes if not found["train"][name]]:
        raise DataError(
            f"{root / 'train'}: no images in {named(empty)}; put some there (.jpeg, .png, .webp ...), or remove it"
        )
    if unknown := sorted(found["val"].keys() - found["train"].keys(), key=_natural):
        near = difflib.get_close_matches(unknown[0], classes, n=1)
        hint = f"rename it to {named(near)}, " if near else ""
        raise DataError(f"{root / 'val'}: {named(unknown)} not among the classes of train/; {hint}or remove it")
    if absent := [name for name in classes if not found["val"].get(name)]:
        if len(absent) == len(classes):
            raise DataError(f"{root / 'val'}: no images in any class directory; put some there")
        notes.append(f"{root / 'val'}: no images of {named(absent)}, of {len(classes)} classes in train/")
    return ImageTree(
        root,
        classes,
        {part: [file for name in classes for file in found[part].get(name, ())] for part in PARTS},
        {part: [i for i, name in enumerate(classes) for _ in found[part].get(name, ())] for part in PARTS},
        tuple(notes),
    )


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
        raise DataError(f"{named([str(error.filename or directory)])}: {error.strerror}; mend that") from None
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


def named(names: Sequence[str]) -> str:
    """The first names, fit for one line of a message."""
    shown = [one_line(name, SHOWN_LENGTH) for name in names[:SHOWN]]
    return ", ".join(shown) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
