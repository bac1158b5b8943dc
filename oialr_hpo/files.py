"""Files: what is read is there and readable; what is written can be before the work, and is whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from oialr_hpo.mistake import Mistake, hint, reason

MOST_BYTES = 4 * 2**20
"""Of a text that is read whole."""


def check_file(path: Path) -> None:
    """Refuse what is no file that could be read.

    Raises:
        Mistake: it is not there, a directory, or something else.
    """
    try:
        if path.is_file():
            return
        if path.is_dir():
            raise Mistake(f"{path}: a directory, where a file is expected")
        if path.exists():
            raise Mistake(f"{path}: no regular file; copy its content into one")
        if path.is_symlink():
            raise Mistake(f"{path}: a link to {os.readlink(path)}, which does not exist; mend the link")
        beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    except OSError as error:
        raise unreadable(path, error) from None
    raise Mistake(f"{path}: no such file;{hint(path.name, beside)}".rstrip(";"))


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        Mistake: there is no such file, or it cannot be read, is too large or not UTF-8.
    """
    check_file(path)
    try:
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise unreadable(path, error) from None
    if len(content) > MOST_BYTES:
        raise Mistake(f"{path}: larger than {MOST_BYTES // 2**20} MiB; is this the right file?")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Mistake(f"{path}:{line}: the byte 0x{content[error.start]:02x} is not UTF-8; save it as UTF-8") from None


def unreadable(path: Path, error: OSError) -> Mistake:
    return Mistake(f"{path}: cannot be read: {reason(error)}; mend that, or choose another")


def check_writable(path: Path, *, directory: bool = False, remedy: str = "choose another place") -> None:
    """See that a file, or a directory, can be written before the work for it begins; leaves nothing behind.

    Raises:
        Mistake: it cannot.
    """
    try:
        if os.path.lexists(path) and path.is_dir() is not directory:
            kind, wanted = ("a file", "a directory") if directory else ("a directory", "a file")
            raise Mistake(f"{path} cannot be written: it is {kind}, where {wanted} is expected; {remedy}")
        places = (path, *path.absolute().parents) if directory else path.absolute().parents
        place = next(each for each in places if os.path.lexists(each))
        Path(tempfile.mkdtemp(prefix=".oialr_hpo-check-", dir=place)).rmdir()
    except OSError as error:
        raise Mistake(f"{path} cannot be written: {reason(error)}; {remedy}") from None


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
