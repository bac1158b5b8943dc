"""What became of the workers' time.

How long something took is told by the monotonic clock of the process that wrote it down. The time of day only says
where on the clock a session began.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from oialr_hpo.runs.events import Event, Events


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
    """Seconds that the search ran, over all its sessions, and summed over workers: held, spent training, and of CPU
    time of the processes that propose and keep the books."""

    elapsed: float
    held: float
    training: float
    overhead: float

    @property
    def utilization(self) -> float | None:
        """Share of the held time that was spent training."""
        return self.training / self.held if self.held > 0 else None


def spans(files: Iterable[Events]) -> list[Span]:
    """What every worker did and when. One that is held still, or was killed, ended at its last event."""
    return [span for file in files for span in _of_worker(file)]


def usage(files: Iterable[Events]) -> Usage:
    """How the time of the workers was used, up to each one's last event."""
    files = list(files)
    held: dict[int, float] = {}
    training = 0.0
    for span in spans(files):
        if span.trial is None:
            held[span.worker] = held.get(span.worker, 0.0) + span.seconds
        else:
            training += span.training()
    overhead = sum(event.get("cpu") or 0.0 for file in files for event in file.events if event["event"] == "close")
    return Usage(max(held.values(), default=0.0), sum(held.values()), training, overhead)


def _of_worker(file: Events) -> Iterator[Span]:
    opened: float | None = None
    running: tuple[int, float] | None = None
    setup = math.inf  # of the running trial, until its first record tells
    now = 0.0
    for before, event in zip([None, *file.events], [*file.events, None], strict=True):
        kind = event["event"] if event else "last"
        if opened is not None and event and kind != "open":
            now += _passed(before, event)
        if opened is not None and kind in ("open", "close", "last"):
            yield Span(file.worker, None, opened, now)
            if running is not None:
                yield Span(file.worker, *running, now, setup)
            opened = running = None
        if kind == "open" and event:
            opened = now = event["time"]
        elif kind == "start" and event and opened is not None:
            running, setup = (event["number"], now), math.inf
        elif kind == "epoch" and event and setup == math.inf:
            setup = event.get("setup_seconds", 0.0)
        elif kind == "end" and running is not None:
            yield Span(file.worker, *running, now, setup)
            running = None


def _passed(before: Event | None, event: Event) -> float:
    """Seconds between two events of a session; older versions wrote the time of day only, which may step back."""
    if before is None:
        return 0.0
    key = "clock" if before.get("clock") is not None and event.get("clock") is not None else "time"
    return max(0.0, float(event[key] - before[key]))
