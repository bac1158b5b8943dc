"""What a running search prints: how it begins, a line per finished trial, and one a minute in between; the same in a
terminal and in a log file."""

import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from oialr_hpo.engines.deadline import Deadline
from oialr_hpo.experiment import Experiment
from oialr_hpo.runs.printing import Volume, clock, describe, figure, scores, tell, volume
from oialr_hpo.runs.ranking import Leading, Standing
from oialr_hpo.runs.time_left import durations, time_left
from oialr_hpo.runs.trial import Trial

SILENCE_SECONDS = 60.0
"""So long nothing is printed at most."""
NAMED = 4
"""Of the running trials that a line names."""


def begun(
    experiment: Experiment, path: Path, engine: str, workers: int, threads: int, device: str | None = None
) -> str:
    """What a search is about to do, and how to watch it.

    Args:
        path: of its run directory.
        engine: by its name.
        threads: CPU threads of a worker.
        device: of this machine, that trainings run on; None: unknown.
    """
    on = f", on {device}" if device else ""
    watch = shlex.join(["python", "-m", "oialr_hpo.status", str(path), "--watch"])
    limit = f", at most {experiment.time_limit}" if experiment.time_limit else ""
    stops = ", bad ones stopped early" if experiment.early_stopping.enabled else ""
    if finalists := experiment.finalist_trainings:
        stops += f", {finalists} of them train the best settings again"
    if experiment.stop_when is not None:
        stops += f", fewer once a better one is less likely than {experiment.stop_when:.0%}"
    budget = f"{_count(experiment.trials, 'trial')}{limit}{stops}"
    return "\n".join(
        [
            f"search   {_count(len(experiment.space), 'setting')}, {budget}",
            f"engine   {engine}, sampler {experiment.sampler.name}",
            f"workers  {workers}, {_count(threads, 'CPU thread')} each{on}",
            f"run      {path}",
            f"watch    {watch}",
        ]
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


class Progress:
    """Prints every trial that ended, with the best so far and the time left."""

    def __init__(
        self,
        total: int,
        workers: int,
        earlier: Sequence[Trial],
        deadline: Deadline | None = None,
        say: Callable[[str], None] = tell,
    ):
        self._total, self._workers, self._deadline, self._print = total, workers, deadline, say
        self._leading = Leading(earlier)
        self._ended = {trial.number: trial for trial in earlier if trial.finished}
        self._running: dict[int, float] = {}  # shares of their epochs
        self._began = self._spoke = time.monotonic()

    def reached(self, number: int, share: float, scores: Sequence[float] = ()) -> None:
        """A trial begins, or has come so far, with these scores."""
        self._running[number] = share
        if volume.get() is Volume.VERBOSE:
            reached = f"at {share:.0%}, score {' / '.join(map(figure, scores))}" if scores else f"at {share:.0%}"
            self._print(f"#{number} {reached if share else 'begins'}")

    def less(self, trials: int) -> None:
        """So many of the budget are left out."""
        self._total -= trials

    def tick(self) -> None:
        """Say what is running, where nothing has been said for long."""
        if time.monotonic() - self._spoke < SILENCE_SECONDS:
            return
        named = [f"#{number} at {share:.0%}" for number, share in sorted(self._running.items())]
        more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
        running = f"running: {', '.join(named[:NAMED])}{more}" if named else "no trial is running"
        self._say(running)

    def ended(self, trial: Trial) -> None:
        self._leading.add(trial)
        self._running.pop(trial.number, None)
        self._ended |= {trial.number: trial} if trial.finished else {}
        self._say(describe(trial))

    def _say(self, news: str) -> None:
        self._spoke = time.monotonic()
        done = len(self._ended)
        best_so_far = _best(self._leading.front)
        counter = f"[{done:{len(str(self._total))}}/{self._total}]"
        times = f"{clock(time.monotonic() - self._began)} gone"
        until = None if self._deadline is None else time.time() + self._deadline.left
        if left := time_left(durations([*self._ended.values()]), self._total, self._workers, until):
            times += f", about {clock(left)} left"
        self._print(f"{counter} {news} | {best_so_far} | {times}")


def _best(leaders: Sequence[Standing]) -> str:
    """The best settings, or with several goals how many are beaten by none."""
    if not leaders:
        return "no best yet"
    if len(leaders[0].goals) > 1:
        return f"{len(leaders)} on the Pareto front"
    numbers = ", ".join(f"#{trial.number}" for trial in leaders[0].counted)
    return f"best {scores(leaders[0])} ({numbers})"
