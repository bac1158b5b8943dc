"""Which trial comes next: the one budget that all workers of a search share."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from oialr_hpo.experiment import Experiment
from oialr_hpo.space import Value
from oialr_hpo.trial import Role, State, Trial

HOPELESS = 8
"""So many first trials that all fail for one reason end a search: the reason is not in their settings."""


@dataclass(frozen=True)
class Ticket:
    """The right to run one trial; without settings the sampler proposes them."""

    number: int
    role: Role
    settings: dict[str, Value] | None = None


class Tickets:
    """Hands out tickets until the budget of trials or time is spent.

    The dense baseline comes first, then the given starts, then proposals. Trials that earlier sessions finished count
    against the budget and are not repeated.
    """

    def __init__(self, experiment: Experiment, earlier: Sequence[Trial], deadline: float | None = None):
        self._deadline = deadline
        finished = [trial for trial in earlier if trial.finished]
        self._left = experiment.trials - len(finished)
        self._number = max((trial.number for trial in earlier), default=-1) + 1
        tried = [trial.settings for trial in finished if trial.role is Role.START]
        self._failures: list[str | None] | None = []
        self._given: list[tuple[Role, dict[str, Value]]] = []
        if experiment.dense_baseline and not any(trial.role is Role.DENSE for trial in finished):
            self._given.append((Role.DENSE, {}))
        self._given += [(Role.START, settings) for settings in experiment.starts() if settings not in tried]

    def next(self) -> Ticket | None:
        """The next ticket, or None when the budget is spent."""
        if self._left <= 0 or (self._deadline is not None and time.time() >= self._deadline):
            return None
        number = self._number
        self._left, self._number = self._left - 1, number + 1
        if self._given:
            role, settings = self._given.pop(0)
            return Ticket(number, role, settings)
        return Ticket(number, Role.PROPOSAL)

    def note(self, trial: Trial) -> None:
        """Learn how a trial ended: a search in which everything fails alike hands out no more tickets."""
        if self._failures is None:
            return
        if trial.state is not State.FAILED:
            self._failures = None
            return
        self._failures.append(trial.reason)
        if len(self._failures) >= HOPELESS and len(set(self._failures)) == 1:
            self._left = 0
