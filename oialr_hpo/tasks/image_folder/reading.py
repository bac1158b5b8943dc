"""Image files: whether they can be read, and their pixels."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from oialr_hpo.mistake import one_line, reason
from oialr_hpo.tasks.image_folder.tree import SHOWN_LENGTH, ImageTree, named
from oialr_hpo.tasks.task import DataError

DECODED_BYTES = 2**30
"""Images of so many bytes in all are decoded before a training; of more, beginnings and ends are looked at."""
CHUNK = 256
"""Images that a thread looks at in one go."""


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
        names = named([os.path.relpath(file, tree.root) for file in damaged])
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
