"""What a trial says after every epoch, made plain: numbers under names, and the notes of the training loop.

Metrics come from code of the user's and may be anything. Here they become numbers of Python, or a `RecordError` that
names the metric; whatever takes a record in later, on any rank and in any file, finds nothing but numbers.
"""

from collections.abc import Mapping
from dataclasses import fields
from numbers import Complex, Real
from typing import Any

from oialr_hpo.experiment.metrics import NOTES
from oialr_hpo.runs.trial import Trial

TABLES = frozenset(note.name for note in NOTES if note.kind == "table")
NOTED = frozenset(note.name for note in NOTES)
TRIAL = frozenset({field.name for field in fields(Trial)} | {"score", "event", "time", "clock"})
"""What is said of a trial as a whole."""

RESERVED = TRIAL | NOTED
LONGEST_NAME = 100


class RecordError(ValueError):
    """A record is none; the message says which metric and what it was."""


def metrics(measured: object) -> dict[str, Any]:
    """What a task measured, as plain numbers; a name that is reserved gets `task_` before it.

    Raises:
        RecordError: it is no dict of numbers.
    """
    numbers: dict[str, Any] = {}
    items = _items(measured, "evaluate returned")
    for name, value in items.items():
        numbers[_free(name, RESERVED, items)] = _number(value, f"the metric {name!r}")
    return numbers


def plain(record: object) -> dict[str, Any]:
    """What an objective yields, with plain numbers; names that say something of a trial get `task_` before them.

    Raises:
        RecordError: it is no dict of numbers and the training loop's notes.
    """
    content: dict[str, Any] = {}
    items = _items(record, "the objective yielded")
    for name, value in items.items():
        what = f"the metric {name!r}"
        if name in TABLES:
            content[name] = table(name, value)
        elif name == "device" and isinstance(value, str):
            content[name] = str.__str__(value)[:LONGEST_NAME]
        elif name == "epoch":
            content[name] = _whole(value, what)
        else:
            content[_free(name, TRIAL - NOTED, items)] = _number(value, what)
    return content


def table(name: str, values: object) -> dict[str, Any]:
    """Numbers by name, such as one of every layer, as plain numbers.

    Raises:
        RecordError: it is no dict of numbers.
    """
    what = f"the metric {name!r}"
    layers = _items(values, f"{what} is")
    return {layer: _number(each, f"{what} of {layer!r}") for layer, each in layers.items()}


def key(record: Mapping[str, Any], name: str) -> str:
    """Where a record has the metric that a user calls `name`: a task's own goes before a note of the same name."""
    own = f"task_{name}"
    return own if name in RESERVED and own in record else name


def _items(content: object, said: str) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        raise RecordError(f"{said} {_describe(content)}, not a dict of numbers")
    return {_name(name): value for name, value in content.items()}


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise RecordError(f"a metric is called by {_describe(name)}; names are texts")
    text = str.__str__(name)
    if not text or not text.isprintable() or len(text) > LONGEST_NAME:
        shown = ascii(text[:20])
        raise RecordError(f"a metric is called {shown}; names are 1 to {LONGEST_NAME} printable characters")
    return text


def _free(name: str, reserved: frozenset[str], given: Mapping[str, Any]) -> str:
    """The name itself, or what it gets where it is reserved: a name that was not `given` either."""
    if name in reserved:
        name = f"task_{name}"
        while name in given:
            name = f"task_{name}"
    return name


def _number(value: Any, what: str) -> int | float:
    """A plain number: of Python's own, NumPy's, a tensor of one element, or whatever else says `float`."""
    found = value
    try:
        if not isinstance(value, (int, float)) and hasattr(value, "item"):
            found = value.item()
        if isinstance(found, int):
            float(found)  # not every whole number is within its range
            return int(found)
        if hasattr(type(found), "__float__") and (isinstance(found, Real) or not isinstance(found, Complex)):
            return float(found)
    except OverflowError:
        raise RecordError(f"{what} is too large for a number") from None
    except Exception as error:  # of a class of the user's, or of a GPU that has failed meanwhile
        many = bool(_shape(value))
        why = "" if many else f" ({type(error).__name__}: {_text(error)})"
        raise RecordError(f"{what} is {_describe(value)}, not a number{why}") from error
    raise RecordError(f"{what} is {_describe(value)}, not a number")


def _whole(value: Any, what: str) -> int:
    number = _number(value, what)
    if not 1 <= number <= 2**53 or number != int(number):
        raise RecordError(f"{what} is {number}, not a whole number above zero")
    return int(number)


def _describe(value: object) -> str:
    """What something is, without a word of its own where that may be long or go wrong."""
    if value is None:
        return "None"
    if isinstance(value, str):
        return f"the text {str.__str__(value)[:20]!a}"
    name, shape = type(value).__name__, _shape(value)
    return f"{'an' if name[:1] in 'AEIOUaeiou' else 'a'} {name}{f' of shape {shape}' if shape else ''}"


def _shape(value: object) -> tuple[Any, ...]:
    try:
        return tuple(value.shape)  # type: ignore[attr-defined]
    except Exception:
        return ()


def _text(error: BaseException) -> str:
    """The words of an exception, where it has any."""
    try:
        return str(error)
    except Exception:
        return ""
