"""A moment that steps of the time of day do not move, on any machine."""

import time


class Deadline:
    """So many seconds from now. Sent to another process, what is left is left there, too."""

    def __init__(self, seconds: float):
        self._at = time.monotonic() + seconds

    def __reduce__(self) -> tuple[type["Deadline"], tuple[float]]:
        return Deadline, (self.left,)

    @property
    def left(self) -> float:
        """Seconds until then; negative after it."""
        return self._at - time.monotonic()

    @property
    def passed(self) -> bool:
        return self.left <= 0
