"""What is printed of trials: lines, tables, durations and numbers, the same in a terminal and in a log file."""

import os
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from enum import IntEnum
from typing import Any, Literal

from oialr_hpo.runs.ranking import Standing
from oialr_hpo.runs.trial import Role, State, Trial


class Volume(IntEnum):
    """How much a command prints: what it was asked for and errors; how it gets on too; every epoch too."""

    QUIET, NORMAL, VERBOSE = range(3)


volume: ContextVar[Volume] = ContextVar("volume", default=Volume.NORMAL)


def tell(text: str) -> None:
    """Print at once how a command gets on, unless it is to be quiet."""
    if volume.get() > Volume.QUIET:
        say(text)


def say(text: str, stream: Literal["stdout", "stderr"] = "stdout") -> None:
    """Print at once. Where that cannot be written (its disk is full, its terminal gone), the training goes on mute."""
    try:
        print(text, file=getattr(sys, stream), flush=True)
    except BrokenPipeError:
        raise
    except OSError:
        setattr(sys, stream, open(os.devnull, "w"))  # noqa: SIM115 (open as long as the process)


def describe(trial: Trial) -> str:
    """One trial in a few words."""
    name = f"#{trial.number} {trial.role.value if trial.role is not Role.PROPOSAL else ''}".strip()
    if trial.state in (State.PAUSED, State.PRUNED) and trial.epochs:
        epoch, word = trial.epochs[-1]["epoch"], "paused" if trial.state is State.PAUSED else "stopped early"
        return f"{name} {word} at epoch {epoch}, score {scores(trial)} ({clock(trial.seconds)})"
    if trial.state is not State.COMPLETE:
        reason = f": {trial.reason}" if trial.reason else ""
        return f"{name} {trial.state.value.replace('_', ' ')}{reason} after {clock(trial.elapsed)}"
    infeasible = "" if trial.violation == 0 else ", breaks the constraints"
    share = f"trainable {trial.metrics['trainable_percent']:.1f} %, " if "trainable_percent" in trial.metrics else ""
    return f"{name} score {scores(trial)} ({share}{clock(trial.seconds)}{infeasible})"


def scores(trial: Trial | Standing) -> str:
    """The score of a trial, or of settings that were tried several times; with several goals all of them."""
    return " / ".join(f"{score:.4f}" if abs(score) < 1e4 else figure(score) for score in trial.scores)


def clock(seconds: float) -> str:
    """Seconds as 7.2 s, 3:05 or 2:03:05."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """An aligned table; numbers to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(header), *cells]) for i in range(len(header))]
    right = [all(isinstance(row[i], (int, float, type(None))) for row in rows) for i in range(len(header))]

    def line(values: Sequence[str]) -> str:
        columns = zip(values, widths, right, strict=True)
        return "  ".join(text.rjust(width) if number else text.ljust(width) for text, width, number in columns).rstrip()

    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, cells)])


def _cell(value: Any) -> str:
    return "-" if value is None else figure(value)


def figure(value: Any) -> str:
    """A number in four digits, or all of those before the point; anything else as it is."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"
