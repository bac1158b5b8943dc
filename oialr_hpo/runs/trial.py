"""What a trial is, and its states."""

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from oialr_hpo.experiment.space import Value


class State(str, Enum):
    """How far a trial has come, or how it ended."""

    RUNNING = "running"
    COMPLETE = "complete"
    PAUSED = "paused"
    PRUNED = "pruned"
    FAILED = "failed"
    OUT_OF_MEMORY = "out_of_memory"
    INTERRUPTED = "interrupted"

    @property
    def finished(self) -> bool:
        """Whether the trial counts as tried: it has a result, be it that it was behind."""
        return self not in (State.RUNNING, State.INTERRUPTED)

    @property
    def final(self) -> bool:
        """Whether nobody goes on with the trial; one that is paused may go on."""
        return self.finished and self is not State.PAUSED


RETRIED = (State.FAILED, State.OUT_OF_MEMORY)
"""Ends whose trials may be run again, once what ended them is mended."""


class Role(str, Enum):
    """Why a trial was run: the dense model for comparison, a given start, a proposal of the sampler, or the settings of
    an earlier one once more, with a fresh seed."""

    DENSE = "dense"
    START = "start"
    PROPOSAL = "proposal"
    FINALIST = "finalist"


PRUNED, INFEASIBLE, FAILED = 1e15, 1e18, 1e21
"""Losses, beyond those of trials that reached a score: from these up."""


@dataclass
class Trial:
    """One evaluation of one point of the search space.

    `epochs` holds one record of metrics per epoch; `metrics` is the record that was scored and `best_epoch` the one
    with the best score. `scores` has one number per goal, in the metric's own sense, and `signs` says of each whether
    it is to be small (1, as without signs) or large (-1). `violation` sums by how much the constraints are broken (0:
    feasible). `attempt` counts how often the trial began or went on; `seconds` of training and evaluating, and
    `setup_seconds` of what came before (a process that had to start, imports, the data, the network), add them up.
    `seed` is that of the settings, where it is searched.
    """

    number: int
    role: Role
    settings: dict[str, Value]
    seed: int
    worker: int
    threads: int = 1
    attempt: int = 1
    started: float = 0.0
    state: State = State.RUNNING
    reason: str | None = None
    scores: list[float] = field(default_factory=list)
    signs: list[int] = field(default_factory=list)
    violation: float = 0.0
    metrics: dict[str, Any] = field(default_factory=dict)
    best_epoch: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    setup_seconds: float = 0.0
    epochs: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if isinstance(searched := self.settings.get("seed"), int):
            self.seed = searched

    @property
    def score(self) -> float | None:
        """Of the first goal; None before the end."""
        return self.scores[0] if self.scores else None

    @property
    def goals(self) -> list[float]:
        """The scores, all turned so that smaller is better: what trials are compared by."""
        return [sign * score for sign, score in zip(self.signs or [1] * len(self.scores), self.scores, strict=True)]

    @property
    def elapsed(self) -> float:
        """Seconds that it held a worker."""
        return self.seconds + self.setup_seconds

    @property
    def finished(self) -> bool:
        return self.state.finished

    @property
    def candidate(self) -> bool:
        """Whether the trial may be exported as the best: complete, feasible, and not the dense baseline."""
        return self.state is State.COMPLETE and self.violation == 0 and self.role is not Role.DENSE

    def add(self, record: dict[str, Any]) -> None:
        """Take in an epoch's record; one that was seen before replaces what came after a checkpoint."""
        record.setdefault("epoch", len(self.epochs) + 1)
        while self.epochs and self.epochs[-1]["epoch"] >= record["epoch"]:
            self.epochs.pop()
        self.epochs.append(record)

    def again(self) -> "Trial":
        """The same trial before it was run."""
        known = self.number, self.role, self.settings, self.seed, self.worker
        return Trial(*known, state=State.INTERRUPTED, attempt=self.attempt)

    def take_up(self, earlier: "Trial") -> None:
        """Go on from what an earlier attempt did of the same trial."""
        self.epochs = list(earlier.epochs)
        self.seconds, self.setup_seconds = earlier.seconds, earlier.setup_seconds

    def losses(self, goals: int, epochs: int) -> list[float]:
        """What samplers minimise, one number per goal.

        In this order: feasible trials by their scores; trials that were behind, those that came further in their
        `epochs` first; infeasible ones by how much they break the constraints; failures.
        """
        if self.state is State.COMPLETE and self.violation == 0:
            return [min(goal, PRUNED) for goal in self.goals]
        if self.state is State.COMPLETE:
            return [INFEASIBLE * (1 + math.log1p(self.violation))] * goals
        if self.state in (State.PAUSED, State.PRUNED) and self.scores and self.epochs:
            left = 2 - self.epochs[-1]["epoch"] / epochs
            return [PRUNED * (left + 1e-7 * math.copysign(math.log1p(abs(goal)), goal)) for goal in self.goals]
        return [FAILED] * goals
