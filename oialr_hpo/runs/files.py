"""Files of a run directory: whole or not at all, and one line where they cannot be written."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from oialr_hpo.mistake import Mistake


class RunDirectoryError(Mistake):
    """The run directory cannot be used; the message says why and what to do."""


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to, which then takes its place; where that fails, nothing is left of it."""
    partial = _partial(path)
    try:
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())  # what a disk has no room for may only show here
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")  # names of files may be any bytes


def discard(path: Path, partial_only: bool = False) -> None:
    """Remove a file that is of no more use, and what a killed process left of writing it; what cannot be stays."""
    for each in [_partial(path)] if partial_only else [path, _partial(path)]:
        with suppress(OSError):
            each.unlink()


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def torn(path: Path) -> bool:
    """Whether the file's last line was cut off by a crash."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return size > 0 and file.read(1) != b"\n"


def unwritable(path: Path, error: OSError) -> RunDirectoryError:
    return RunDirectoryError(
        f"{path} cannot be written: {error.strerror}; mend that, or choose another --out; --resume goes on"
    )


def finite(value: Any) -> Any:
    """What JSON can hold of a value: NaN and infinities, which it lacks, as null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
