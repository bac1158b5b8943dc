"""How long a trial trained, apart from what it took to get there."""

import time
from typing import Any

from oialr_hpo.runs.trial import Trial


class Stopwatch:
    """Of one session of a trial, from now on.

    Its training, evaluation included, began as long before its first record as that says in `seconds`; a record that
    does not say it may say how long the setting up took, in `setup_seconds`. All before that, the start of the process
    that trains too, as far as the trial had to wait for it, is setting up: the whole of a session without a record.
    """

    def __init__(self) -> None:
        self._began = self._ready = time.monotonic()
        self._setup: float | None = None

    def ready(self) -> None:
        """Note that the process is up."""
        self._ready = time.monotonic()

    @property
    def running(self) -> float:
        """Seconds since the process is up."""
        return time.monotonic() - self._ready

    def tell(self, record: dict[str, Any], trial: Trial) -> None:
        """Take in a trial's next record, and write into it how long this session was setting up."""
        if self._setup is None:
            self._setup = self._until(record, trial)
        if self._setup > 0:
            record["setup_seconds"] = self._setup

    def _until(self, record: dict[str, Any], trial: Trial) -> float:
        if "seconds" not in record:
            return self._ready - self._began + record.get("setup_seconds", 0.0)
        last = record.get("epoch", len(trial.epochs) + 1) - 1
        before = next((epoch.get("seconds", 0.0) for epoch in reversed(trial.epochs) if epoch["epoch"] == last), 0.0)
        trained = record["seconds"] - before if record["seconds"] >= before else record["seconds"]
        return max(0.0, time.monotonic() - self._began - trained)

    def stop(self, trial: Trial) -> None:
        """Add the session to a trial's times."""
        passed = time.monotonic() - self._began
        setup = passed if self._setup is None else min(max(0.0, self._setup), passed)
        trial.setup_seconds += setup
        trial.seconds += passed - setup
