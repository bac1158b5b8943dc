"""How long a search still takes, judged by the trials that have ended."""

import time
from collections.abc import Sequence
from statistics import fmean

from oialr_hpo.runs.trial import Trial


def durations(trials: Sequence[Trial]) -> list[float]:
    """Seconds for which trials like these hold a worker that is warm: with the least setting up that was seen."""
    least = min((trial.setup_seconds for trial in trials), default=0.0)
    return [trial.seconds + least for trial in trials]


def time_left(durations: Sequence[float], total: int, workers: int, deadline: float | None = None) -> float | None:
    """Seconds until `total` trials are through, where these have ended and all workers are busy; None where over.

    A running trial is taken to be half done, the others to take as long as those that ended. At the `deadline`, in
    time.time(), the search is taken to end.
    """
    remaining = total - len(durations)
    if remaining <= 0 or not durations:
        return None
    busy = min(workers, remaining)
    left = fmean(durations) * (remaining - busy / 2) / busy
    return left if deadline is None else min(left, max(0.0, deadline - time.time()))
