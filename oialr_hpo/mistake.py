"""What the user can mend, in one line."""

import difflib
from collections.abc import Iterable

LONGEST = 300
"""Characters of a message, with the `error: ` before it."""
PREFIX = "error: "


class Mistake(Exception):
    """What the user can mend: its text is one line that says what is wrong, where, and the remedy."""

    def __init__(self, text: str):
        super().__init__(one_line(text))


def one_line(text: str, longest: int = LONGEST - len(PREFIX)) -> str:
    """A text with control characters escaped; of a long one the middle is left out, since remedies stand at the end."""
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    if len(shown) <= longest:
        return shown
    end = longest // 3
    return f"{shown[: longest - end - 5]} ... {shown[-end:]}"


def reason(error: BaseException) -> str:
    """Why something failed, in a line: what the system says of an `OSError`, else the exception's own words."""
    said = error.strerror if isinstance(error, OSError) else None
    return said or " ".join(str(error).split()) or type(error).__name__


def hint(name: str, known: Iterable[str]) -> str:
    """` did you mean 'table3'?` for `tabel3`; empty where no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" did you mean {near[0]!r}?" if near else ""
