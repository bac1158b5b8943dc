"""What a trial is, and its states."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from oialr_hpo.space import Value


class State(str, Enum):
    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"
    OUT_OF_MEMORY = "out_of_memory"
    INTERRUPTED = "interrupted"


class Role(str, Enum):
    """Why a trial was run: the dense model for comparison, a given start, or a proposal of the sampler."""

    DENSE = "dense"
    START = "start"
    PROPOSAL = "proposal"


@dataclass
class Trial:
    """One evaluation of one point of the search space.

    `epochs` holds one record of metrics per epoch; `metrics` is the record that was scored and `best_epoch` the one
    with the lowest score. `scores` has one number per goal, all to be minimised. `violation` sums by how much the
    constraints are broken (0: feasible). `seconds` adds up the sessions of a trial that was interrupted.
    """

    number: int
    role: Role
    settings: dict[str, Value]
    seed: int
    worker: int
    threads: int = 1
    started: float = 0.0
    state: State = State.RUNNING
    reason: str | None = None
    scores: list[float] = field(default_factory=list)
    violation: float = 0.0
    metrics: dict[str, Any] = field(default_factory=dict)
    best_epoch: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    epochs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def score(self) -> float | None:
        """Of the first goal; None before the end."""
        return self.scores[0] if self.scores else None

    @property
    def finished(self) -> bool:
        return self.state not in (State.RUNNING, State.INTERRUPTED)

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

    def take_up(self, earlier: "Trial") -> None:
        """Go on from what an earlier session did of the same trial."""
        self.epochs, self.seconds = list(earlier.epochs), earlier.seconds

    def losses(self, goals: int, epochs: int) -> list[float]:
        """What samplers minimise, one number per goal.

        In this order: feasible trials by their scores; trials that were stopped early, those that came further in their
        `epochs` first; infeasible ones by how much they break the constraints; failures.
        """
        if self.state is State.COMPLETE:
            return self.scores if self.violation == 0 else [1e6 * (1 + self.violation)] * goals
        if self.state is State.PRUNED and self.scores:
            return [1e5 * (2 - self.epochs[-1]["epoch"] / epochs) + min(score, 1e3) for score in self.scores]
        return [1e12] * goals
