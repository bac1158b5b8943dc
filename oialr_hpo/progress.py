"""What a running search prints: one line per finished trial, the same in a terminal and in a log file."""

import time
from collections.abc import Sequence
from typing import Any

from oialr_hpo.trial import Role, State, Trial, best


class Progress:
    """Prints every finished trial with the best so far and the time left."""

    def __init__(self, total: int, workers: int, earlier: Sequence[Trial]):
        self._total, self._workers = total, workers
        self._trials = [trial for trial in earlier if trial.finished]
        self._started, self._earlier = time.time(), len(self._trials)

    def finished(self, trial: Trial) -> None:
        self._trials.append(trial)
        winner = best(self._trials)
        best_so_far = f"best {winner[0].score:.4f} (#{winner[0].number})" if winner else "no best yet"
        done = len(self._trials)
        elapsed = time.time() - self._started
        left = elapsed / max(done - self._earlier, 1) * (self._total - done)
        counter = f"[{done:{len(str(self._total))}}/{self._total}]"
        times = f"{clock(elapsed)} gone, about {clock(left)} left"
        print(f"{counter} {describe(trial)} | {best_so_far} | {times}", flush=True)


def describe(trial: Trial) -> str:
    """One trial in a few words."""
    name = f"#{trial.number} {trial.role.value if trial.role is not Role.PROPOSAL else ''}".strip()
    if trial.state is not State.COMPLETE:
        reason = f": {trial.reason}" if trial.reason else ""
        return f"{name} {trial.state.value}{reason} after {clock(trial.seconds)}"
    assert trial.score is not None
    infeasible = "" if trial.violation == 0 else ", breaks the constraints"
    share = f"trainable {trial.metrics['trainable_percent']:.1f} %, " if "trainable_percent" in trial.metrics else ""
    return f"{name} score {trial.score:.4f} ({share}{clock(trial.seconds)}{infeasible})"


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
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
