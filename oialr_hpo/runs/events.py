"""The events of a trial file, as they are read back: by this version or an older one, whole or damaged.

A line that is no event (torn by a crash, overwritten with NUL bytes, with values of the wrong kind, or of a later
version) is left out and counted; the others lose nothing by it.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oialr_hpo.experiment.metrics import METRICS
from oialr_hpo.methods import FULL, OF_LAYERS
from oialr_hpo.runs.trial import Role, State

Event = dict[str, Any]


@dataclass(frozen=True)
class Events:
    """What one worker wrote, in the order in which it did.

    Attributes:
        worker: its index.
        events: each with its kind at `event`.
        damaged: lines that are none.
    """

    worker: int
    events: list[Event]
    damaged: int


def read(file: Path) -> Events:
    """The events of a trial file `rank-N.jsonl`."""
    events: list[Event] = []
    damaged = 0
    with open(file, "rb") as lines:
        for line in lines:
            event = parse(line)
            if event is None:
                damaged += bool(line.strip())
            else:
                events.append(event)
    return Events(worker_of(file), events, damaged)


def worker_of(file: Path) -> int:
    """Whose trial file `rank-N.jsonl` it is."""
    return int(file.stem.removeprefix("rank-"))


def number(value: Any) -> bool:
    """Whether it is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def parse(line: bytes) -> Event | None:
    """The event of a line; None where it is none."""
    try:
        event = json.loads(line, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return None
    needed = _NEEDED.get(event["event"])
    if needed is None or not all(key in event and right(event[key]) for key, right in (needed | _ALWAYS).items()):
        return None
    for key in _OPTIONAL.keys() & event.keys():
        if event[key] is None:
            del event[key]
        elif not _OPTIONAL[key](event[key]):
            return None
    if event["event"] == "epoch":
        return _not_numbers(event)
    return _end(event) if event["event"] == "end" else event


def _end(event: Event) -> Event | None:
    """An end with all that ends have; the oldest ones have one `score`."""
    scores = event.pop("scores", None) or [event.pop("score", None)]
    event["scores"] = [score for score in scores if number(score)]
    if event["state"] == State.COMPLETE and len(event["scores"]) < len(scores):
        return None
    if len(event.get("signs") or event["scores"]) != len(event["scores"]):
        return None
    for key in ("metrics", "best_epoch"):
        record = _not_numbers(event.get(key) or {})
        if record is None:
            return None
        event[key] = record
    return event


def _not_numbers(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """A record of metrics, in which JSON's null was NaN or an infinity; None where declared ones are damaged."""
    if not all(record[name] is None or number(record[name]) for name in _NUMBERS if name in record):
        return None
    return {key: math.nan if value is None else value for key, value in record.items()}


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _count(value: Any) -> bool:
    return _whole(value) and 0 <= value < 10**6


def _time(value: Any) -> bool:
    """Seconds, of a duration or since 1970, within centuries."""
    return number(value) and 0 <= value < 2e10


def _mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _settings(value: Any) -> bool:
    return _mapping(value) and all(map(_plain, value.values()))


def _plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_plain, value))
    return isinstance(value, (bool, int, float, str, type(None)))


_NUMBERS = [metric.name for metric in METRICS.values() if metric.kind == "number"]
_ALWAYS: dict[str, Callable[[Any], bool]] = {"time": _time}
_NEEDED: dict[str, dict[str, Callable[[Any], bool]]] = {
    "open": {},
    "close": {},
    "start": {
        "number": _count,
        "role": lambda value: value in [role.value for role in Role],
        "settings": _settings,
        "seed": _whole,
        "worker": _count,
    },
    "epoch": {"number": _count},
    "end": {"number": _count, "state": lambda value: value in [state.value for state in State]},
}
_OPTIONAL: dict[str, Callable[[Any], bool]] = {
    "clock": _time,
    "cpu": _time,
    "threads": _count,
    "started": _time,
    "attempt": _count,
    "epoch": number,
    "step": number,
    **dict.fromkeys((*OF_LAYERS, *FULL), _mapping),
    "reason": lambda value: isinstance(value, str),
    "scores": lambda value: isinstance(value, list),
    "violation": number,
    "metrics": _mapping,
    "best_epoch": _mapping,
    "seconds": _time,
    "setup_seconds": _time,
    "signs": lambda value: isinstance(value, list) and all(sign in (1, -1) for sign in value),
}
