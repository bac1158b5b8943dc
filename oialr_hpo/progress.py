"""What a running search prints: one line per finished trial, the same in a terminal and in a log file."""

import os
import sys
import time
from collections.abc import Sequence
from statistics import fmean
from typing import Any, Literal

from oialr_hpo.engines.deadline import Deadline
from oialr_hpo.runs.ranking import Standing, front
from oialr_hpo.runs.trial import Role, State, Trial
from oialr_hpo.space import as_text


def say(text: str, stream: Literal["stdout", "stderr"] = "stdout") -> None:
    """Print at once. Where that cannot be written (its disk is full, its terminal gone), the training goes on mute."""
    try:
        print(text, file=getattr(sys, stream), flush=True)
    except BrokenPipeError:
        raise
    except OSError:
        setattr(sys, stream, open(os.devnull, "w"))  # noqa: SIM115 (open as long as the process)


class Progress:
    """Prints every trial that ended, with the best so far and the time left."""

    def __init__(self, total: int, workers: int, earlier: Sequence[Trial], deadline: Deadline | None = None):
        self._total, self._workers, self._deadline = total, workers, deadline
        self._tried: dict[str, list[Trial]] = {}
        for trial in earlier:
            self._tried.setdefault(as_text(trial.settings), []).append(trial)
        self._front = front(earlier)
        self._ended = [trial for trial in earlier if trial.finished]
        self._began = time.monotonic()

    def ended(self, trial: Trial) -> None:
        self._rank(trial)
        self._ended += [trial] if trial.finished else []
        done = len(self._ended)
        best_so_far = _best(self._front)
        counter = f"[{done:{len(str(self._total))}}/{self._total}]"
        times = f"{clock(time.monotonic() - self._began)} gone"
        until = None if self._deadline is None else time.time() + self._deadline.left
        if left := time_left(durations(self._ended), self._total, self._workers, until):
            times += f", about {clock(left)} left"
        say(f"{counter} {describe(trial)} | {best_so_far} | {times}")

    def _rank(self, trial: Trial) -> None:
        """Only what repeats earlier settings can make them worse, and bring others back to the front."""
        same = self._tried.setdefault(as_text(trial.settings), [])
        same.append(trial)
        leaders = (each for standing in self._front for each in standing.trials)
        repeats = len(same) > 1
        self._front = front(
            [each for group in self._tried.values() for each in group] if repeats else [*leaders, trial]
        )


def _best(leaders: Sequence[Standing]) -> str:
    """The best settings, or with several goals how many are beaten by none."""
    if not leaders:
        return "no best yet"
    if len(leaders[0].goals) > 1:
        return f"{len(leaders)} on the Pareto front"
    numbers = ", ".join(f"#{trial.number}" for trial in leaders[0].trials)
    return f"best {_scores(leaders[0])} ({numbers})"


def durations(trials: Sequence[Trial]) -> list[float]:
    """Seconds for which trials like these hold a worker that is warm: with the least setting up that was seen."""
    least = min((trial.setup_seconds for trial in trials), default=0.0)
    return [trial.seconds + least for trial in trials]


def time_left(durations: Sequence[float], total: int, workers: int, deadline: float | None = None) -> float | None:
    """Seconds until `total` trials are through, where these have ended and all workers are busy; None where over.

    A running trial is taken to be half done, the others to take as long as those that ended. At the `deadline`, in
    time.time(), the search is taken to end.
    """
    remaining = total - len(durations)
    if remaining <= 0 or not durations:
        return None
    busy = min(workers, remaining)
    left = fmean(durations) * (remaining - busy / 2) / busy
    return left if deadline is None else min(left, max(0.0, deadline - time.time()))


def describe(trial: Trial) -> str:
    """One trial in a few words."""
    name = f"#{trial.number} {trial.role.value if trial.role is not Role.PROPOSAL else ''}".strip()
    if trial.state is State.PRUNED and trial.epochs:
        epoch = trial.epochs[-1]["epoch"]
        return f"{name} stopped early at epoch {epoch}, score {_scores(trial)} ({clock(trial.seconds)})"
    if trial.state is not State.COMPLETE:
        reason = f": {trial.reason}" if trial.reason else ""
        return f"{name} {trial.state.value.replace('_', ' ')}{reason} after {clock(trial.elapsed)}"
    infeasible = "" if trial.violation == 0 else ", breaks the constraints"
    share = f"trainable {trial.metrics['trainable_percent']:.1f} %, " if "trainable_percent" in trial.metrics else ""
    return f"{name} score {_scores(trial)} ({share}{clock(trial.seconds)}{infeasible})"


def _scores(trial: Trial | Standing) -> str:
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
