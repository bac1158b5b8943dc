"""What became of the workers' time."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """A worker was held, or ran a trial, between two times in `time.time()`; a trial's first `setup` seconds were not
    spent training (infinite: none were)."""

    worker: int
    trial: int | None
    began: float
    ended: float
    setup: float = 0.0

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    def training(self, until: float = math.inf) -> float:
        """Seconds of training up to a time."""
        return max(0.0, min(self.ended, until) - self.began - self.setup)


@dataclass(frozen=True)
class Usage:
    """Seconds from the first event to the last, and summed over workers: held, spent training, and of CPU time of the
    processes that propose and keep the books."""

    elapsed: float
    held: float
    training: float
    overhead: float

    @property
    def utilization(self) -> float | None:
        """Share of the held time that was spent training."""
        return self.training / self.held if self.held > 0 else None
