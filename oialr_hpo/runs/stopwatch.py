"""How long a trial trained, apart from what it took to get there."""

import time
from typing import Any

from oialr_hpo.runs.trial import Trial


class Stopwatch:
    """Of one session of a trial, from now on.

    Its setting up is the start of the process that trains, as far as the trial had to wait for it, and what the first
    record calls `setup_seconds`: imports, the data, the network. All else is training, evaluation included. A session
    without a record was setting up all the time.
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

    def tell(self, record: dict[str, Any]) -> None:
        """Take in a record, and write into it how long this session was setting up."""
        if self._setup is None:
            self._setup = self._ready - self._began + record.get("setup_seconds", 0.0)
        if self._setup > 0:
            record["setup_seconds"] = self._setup

    def stop(self, trial: Trial) -> None:
        """Add the session to a trial's times."""
        passed = time.monotonic() - self._began
        setup = passed if self._setup is None else min(self._setup, passed)
        trial.setup_seconds += setup
        trial.seconds += passed - setup
