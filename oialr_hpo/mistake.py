"""What the user can mend, in one line."""

import difflib
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

LONGEST = 300
"""Characters of a message, with the `error: ` before it."""
PREFIX = "error: "


class Mistake(Exception):
    """What the user can mend: its text is one line that says what is wrong, where, and the remedy."""

    def __init__(self, text: str):
        super().__init__(one_line(text))


def warn(text: str) -> None:
    """Say in the log of a training, where that can be written, what goes on but not as it may have been meant."""
    with suppress(OSError, ValueError, AttributeError):
        print(f"warning: {one_line(text)}", file=sys.stderr, flush=True)


def one_line(text: str, longest: int = LONGEST - len(PREFIX)) -> str:
    """A text with control characters escaped; of a long one the middle is left out, since remedies stand at the end."""
    shown = escaped(text)
    if len(shown) <= longest:
        return shown
    end = longest // 3
    return f"{shown[: longest - end - 5]} ... {shown[-end:]}"


def escaped(text: str) -> str:
    """A text with line breaks and other control characters escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def reason(error: BaseException) -> str:
    """Why something failed, in a line: what the system says of an `OSError`, else the exception's own words."""
    said = error.strerror if isinstance(error, OSError) else None
    return said or " ".join(str(error).split()) or type(error).__name__


def described(error: BaseException) -> str:
    """What an exception says, in a line: its words, its kind unless this package raised it for its words, and where
    the user's code was, if it was there: ` (my_task.py:12)`, the innermost line that is of no installed package."""
    said, kind = reason(error), type(error).__name__
    ours = str(Path(__file__).parent)
    others = (ours, "<", *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")))
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [(frame.filename, frame.lineno) for frame in frames if not frame.filename.startswith(others)]
    if isinstance(error, SyntaxError) and error.filename:
        said, theirs = error.msg, [(error.filename, error.lineno)]
    for_its_words = isinstance(error, ValueError) and frames and frames[-1].filename.startswith(ours)
    named = said if for_its_words or said == kind else f"{kind}: {said}"
    return f"{named} ({Path(theirs[-1][0]).name}:{theirs[-1][1]})" if theirs else named


def hint(name: str, known: Iterable[str]) -> str:
    """` did you mean 'table3'?` for `tabel3`; empty where no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" did you mean {near[0]!r}?" if near else ""
