"""What all workers of a search share: the budget, the judgement of running trials, and the progress."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oialr_hpo.engines.deadline import Deadline
from oialr_hpo.engines.early_stopping import Point, Rungs
from oialr_hpo.engines.finalists import Finalists
from oialr_hpo.engines.keeping import KeptWeights
from oialr_hpo.engines.paused import Paused
from oialr_hpo.engines.progress import Progress
from oialr_hpo.engines.prospect import Prospect
from oialr_hpo.engines.repeats import Repeats
from oialr_hpo.experiment import Experiment, seconds
from oialr_hpo.experiment.space import Value, as_text
from oialr_hpo.runs.printing import tell
from oialr_hpo.runs.trial import Role, State, Trial

HOPELESS = 8
"""So many first trials that all fail for one reason end a search: the reason is not in their settings. So do as many in
a row that the disk or the machine interrupts."""


@dataclass(frozen=True)
class Ticket:
    """The right to run one trial.

    Attributes:
        number: of the trial, counted over all workers and sessions.
        settings: what it tries; None: the sampler proposes.
        seed: of the trial, unless its settings name one.
        epochs: records of an attempt that was interrupted or paused, whose checkpoint may save some of the work.
        seconds: of training that attempt had spent, and `setup_seconds` before it.
        attempt: at this trial, from 1 on.
        genes: (d,) of a proposal: where it is to be tried.
    """

    number: int
    role: Role
    settings: dict[str, Value] | None
    seed: int
    epochs: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    setup_seconds: float = 0.0
    attempt: int = 1
    genes: NDArray[np.float64] | None = None


class Desk:
    """Hands out tickets until the budget of trials or time is spent, and hears how the trials go.

    First come the trials that an earlier session left unfinished, then the dense baseline, then the given starts, then
    proposals, unless these are not worth their while any more, see `Prospect`, then settings that were good once more,
    see `Finalists`. What earlier sessions finished counts against the budget and is not repeated. A trial that waits
    goes on before a new one begins, or once nothing is proposed any more, see `Paused`.
    """

    def __init__(
        self,
        experiment: Experiment,
        workers: int,
        earlier: Sequence[Trial],
        deadline: Deadline | None = None,
        say: Callable[[str], None] = tell,
        kept: KeptWeights | None = None,
        checkpoint: Callable[[int], Path] | None = None,
        conclude: Callable[[str], None] = lambda why: None,
    ):
        """
        Args:
            experiment: which is searched.
            workers: how many run trials.
            earlier: trials of earlier sessions.
            deadline: no trial starts later.
            say: prints a line of progress.
            kept: networks of trials that are to stay.
            checkpoint: where a trial that waits is kept, by its number; None: nowhere.
            conclude: notes why the search ends before its budget.
        """
        self._deadline, self._stopped, self._seed, self._kept = deadline, False, experiment.seed, kept
        finished = [trial for trial in earlier if trial.finished]
        self._signs = [goal.sign for goal in experiment.score.goals]
        self._unfinished = [trial for trial in earlier if not trial.finished]
        self._new = experiment.trials - len(earlier)
        known = {trial.number for trial in earlier}
        self._numbers = (number for number in count() if number not in known)
        started = [as_text(trial.settings) for trial in earlier if trial.role is Role.START]
        self._given: list[tuple[Role, dict[str, Value]]] = []
        if experiment.dense_baseline and not any(trial.role is Role.DENSE for trial in earlier):
            self._given.append((Role.DENSE, {}))
        self._given += [(Role.START, start) for start in experiment.starts() if as_text(start) not in started]
        tried = (trial.settings for trial in earlier if trial.role is not Role.DENSE)
        self._repeats = Repeats(experiment.space, tried, experiment.seed + len(earlier))
        self._failures: list[str | None] | None = []
        self._faults, self._interrupted = 0, False  # faults in a row
        self._rungs = Rungs(experiment, earlier if experiment.early_stopping.enabled else ())
        self._paused = Paused(experiment, self._rungs, earlier, checkpoint)
        self._finalists = Finalists(experiment, earlier)
        self._prospect = Prospect(experiment) if experiment.stop_when is not None else None
        self._say, self._conclude = say, conclude
        limit, share = experiment.time_limit, experiment.finalists.share
        self._time_of_finalists = share * seconds(limit) if limit and self._finalists.budget else 0.0
        self._progress = Progress(experiment.trials, workers, finished, deadline, say)

    def next(self, proposed: NDArray[np.float64] | None = None) -> Ticket | None:
        """The next ticket, or None when the budget is spent.

        Args:
            proposed: (d,) genes that the ticket may try, see `fresh`.
        """
        if self._over:
            return None
        if exploring := self._exploring:
            exploring = not self._concludes()
        earlier = self._unfinished.pop(0) if self._unfinished else self._paused.next(last=not exploring)
        if earlier:
            self._progress.reached(earlier.number, 0.0)
            spent = earlier.seconds, earlier.setup_seconds, earlier.attempt + 1
            return Ticket(earlier.number, earlier.role, earlier.settings, earlier.seed, earlier.epochs, *spent)
        if self._new <= 0:
            return None
        self._new -= 1
        number = next(self._numbers)
        self._progress.reached(number, 0.0)
        role, settings = self._begin(number, exploring)
        if role is Role.START and settings is not None:
            self._repeats.add(settings)
        genes = self.fresh(proposed) if settings is None and proposed is not None else None
        return Ticket(number, role, settings, self._seed + number, genes=genes)

    def _begin(self, number: int, exploring: bool) -> tuple[Role, dict[str, Value] | None]:
        """What a new trial is there for, and its settings, unless they are to be proposed."""
        if self._given:
            return self._given.pop(0)
        if (not exploring or self._asks_for_noise) and (settings := self._finalists.next(number)):
            return Role.FINALIST, settings
        return Role.PROPOSAL, None

    @property
    def _exploring(self) -> bool:
        """Whether new settings are tried: what is left of the budget is not the finalists'."""
        in_time = self._deadline is None or self._deadline.left > self._time_of_finalists
        return in_time and self._proposals > 0

    @property
    def _asks_for_noise(self) -> bool:
        prospect = self._prospect
        return prospect is not None and prospect.asks_for_noise(self._proposals, self._finalists.begun)

    @property
    def _proposals(self) -> int:
        """That are left."""
        return self._new - self._finalists.left

    def _concludes(self) -> bool:
        """Whether the proposals that are left are not worth their while; then they are left out."""
        if not self._prospect or self._given:
            return False
        if not (why := self._prospect.verdict(self._finalists.trials, self._proposals)):
            return False
        self._progress.less(self._proposals)
        self._new = self._finalists.left
        self._say(why)
        self._conclude(why)
        return True

    def fresh(self, genes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where a proposal is to be tried: at its genes, or nearby where another trial has these settings."""
        return self._repeats.fresh(genes)

    @property
    def _over(self) -> bool:
        return self._stopped or (self._deadline is not None and self._deadline.passed)

    def close(self) -> None:
        """All trials have ended: where nothing is left to be done, those that still wait are given up."""
        if not (self._over or self._interrupted or self._new > 0):
            self._paused.close()

    def stop(self) -> None:
        """Hand out no more tickets."""
        self._stopped = True

    def report(self, number: int, point: Point) -> None:
        """Learn how far a running trial has come."""
        scores = [sign * goal for sign, goal in zip(self._signs, point.goals, strict=False)]
        self._progress.reached(number, point.share, scores)
        if point.goals:
            self._rungs.report(number, point)

    def stops(self, number: int) -> bool:
        """Whether a trial is to be stopped early, where it was reported last."""
        return self._rungs.stops(number)

    def tick(self) -> None:
        """Called often, for what is due by the clock."""
        self._progress.tick()

    def ended(self, trial: Trial) -> None:
        """Learn how a trial ended; a search in which everything fails alike, or whose machine fails one trial after
        another, hands out no more tickets."""
        self._progress.ended(trial)
        if self._kept:
            self._kept.ended(trial)
        self._paused.ended(trial)
        self._finalists.ended(trial)
        self._interrupted |= trial.state is State.INTERRUPTED
        self._faults = self._faults + 1 if trial.state is State.INTERRUPTED and trial.reason else 0
        if self._faults >= HOPELESS:
            self.stop()
        if self._failures is None or not trial.finished:
            return
        if trial.state is not State.FAILED:
            self._failures = None
            return
        self._failures.append(trial.reason)
        if len(self._failures) >= HOPELESS and len(set(self._failures)) == 1:
            self.stop()
