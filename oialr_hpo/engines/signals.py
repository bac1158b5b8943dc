"""SIGTERM, SIGUSR1 and Ctrl-C: a search stops at the next epoch instead of in the middle of one."""

import signal
import threading
import time
from types import FrameType
from typing import Any

GRACE_SECONDS = 20.0
"""What a trial gets to reach its next epoch after SIGTERM: batch systems kill about 30 s later. SIGUSR1 is sent earlier
and does not hurry."""


class StopRequest:
    """Set by the first signal; as a context manager it takes the handlers over and gives them back.

    A second Ctrl-C raises KeyboardInterrupt. Outside the main thread no signal arrives.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self.deadline: float | None = None  # in time.time(): when running trials are cut off
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        mine = threading.current_thread() is threading.main_thread()
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT) if mine else ():
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == signal.Signals(number).name:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
        if number == signal.SIGTERM:
            self.deadline = time.time() + GRACE_SECONDS
