"""The append-only files `trials/rank-*.jsonl`: one JSON line per event, one file per worker, one writer per file."""

import errno
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oialr_hpo.methods import OF_LAYERS
from oialr_hpo.runs.files import finite, torn, unwritable
from oialr_hpo.runs.trial import Trial


class TrialLog:
    """The append-only file of one worker. A torn last line of an earlier crash is closed before the first write.

    Raises:
        RunDirectoryError: by every method, where the file cannot be written.
    """

    def __init__(self, path: Path):
        self.path = path
        self._cpu = time.process_time()
        try:
            self._file = open(path, "ab+", buffering=0)  # noqa: SIM115 (open as long as the worker lives)
            if torn(path):
                self._file.write(b"\n")
        except OSError as error:
            raise unwritable(path, error) from None

    def start(self, trial: Trial) -> None:
        known = ("number", "attempt", "role", "settings", "seed", "worker", "threads", "started")
        self._write({"event": "start"} | {key: getattr(trial, key) for key in known}, durable=False)

    def epoch(self, trial: Trial) -> None:
        """The trial's latest record; what is left of layers is only written where it changed."""
        record = dict(trial.epochs[-1])
        for kind in OF_LAYERS if len(trial.epochs) > 1 else ():
            if record.get(kind) == trial.epochs[-2].get(kind):
                record.pop(kind, None)
        self._write({"event": "epoch", "number": trial.number} | record, durable=False)

    def end(self, trial: Trial) -> None:
        known = (
            *("number", "attempt", "state", "reason", "scores", "signs", "violation", "metrics", "best_epoch"),
            *("seconds", "setup_seconds"),
        )
        self._write({"event": "end"} | {key: getattr(trial, key) for key in known}, durable=True)

    def opened(self) -> None:
        """Note that the worker is held from now on, for the utilization."""
        self._cpu = time.process_time()
        self._write({"event": "open"}, durable=True)

    def closed(self) -> None:
        """Note that the worker is no longer held, and what CPU time this process took meanwhile."""
        self._write({"event": "close", "cpu": time.process_time() - self._cpu}, durable=True)

    def close(self) -> None:
        self._file.close()

    def _write(self, content: Mapping[str, Any], durable: bool) -> None:
        now = {"time": time.time(), "clock": time.monotonic()}
        line = json.dumps(finite(dict(content) | now), allow_nan=False).encode() + b"\n"
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if durable:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise unwritable(self.path, error) from None
