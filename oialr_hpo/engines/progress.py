"""What a running search prints: one line per finished trial, the same in a terminal and in a log file."""

import time
from collections.abc import Sequence

from oialr_hpo.engines.deadline import Deadline
from oialr_hpo.experiment.space import as_text
from oialr_hpo.runs.printing import clock, describe, say, scores
from oialr_hpo.runs.ranking import Standing, front
from oialr_hpo.runs.time_left import durations, time_left
from oialr_hpo.runs.trial import Trial


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
    return f"best {scores(leaders[0])} ({numbers})"
