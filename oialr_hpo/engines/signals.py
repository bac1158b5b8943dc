"""SIGTERM, SIGUSR1, SIGHUP and Ctrl-C: a search stops at the next epoch instead of in the middle of one."""

import os
import signal
import threading
from types import FrameType
from typing import Any

from oialr_hpo.engines.deadline import Deadline

GRACE_SECONDS = 20.0
"""What a trial gets to reach its next epoch after SIGTERM or SIGHUP: batch systems kill about 30 s later. SIGUSR1 is
sent earlier and does not hurry."""


class StopRequest:
    """Set by the first signal; as a context manager it takes the handlers over and gives them back.

    A second Ctrl-C raises KeyboardInterrupt. Outside the main thread no signal arrives.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self.deadline: Deadline | None = None  # when running trials are cut off
        self._terminals: list[int] = []
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        mine = threading.current_thread() is threading.main_thread()
        self._terminals = [file for file in (1, 2) if os.isatty(file)]
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP) if mine else ():
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # by nohup
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == signal.Signals(number).name:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
        if number in (signal.SIGTERM, signal.SIGHUP):
            self.deadline = Deadline(GRACE_SECONDS)
        if number == signal.SIGHUP:
            self._leave_terminals()

    def _leave_terminals(self) -> None:
        """Print nowhere: a terminal that was closed would answer with an error, before anything is saved."""
        for file in self._terminals:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, file)
            os.close(nowhere)
