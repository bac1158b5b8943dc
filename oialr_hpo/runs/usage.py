"""What became of the workers' time."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """A worker was held, or ran a trial, between two times in `time.time()`."""

    worker: int
    trial: int | None
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass(frozen=True)
class Usage:
    """Seconds from the first event to the last, and summed over workers: held, spent on trials, and of CPU time of the
    processes that propose and keep the books."""

    elapsed: float
    held: float
    training: float
    overhead: float

    @property
    def utilization(self) -> float | None:
        """Share of the held time that was spent on trials."""
        return self.training / self.held if self.held > 0 else None
