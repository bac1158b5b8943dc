"""What the callbacks of all trainers have in common."""

from __future__ import annotations

from typing import Any

from oialr_hpo.oialr import OIALR
from oialr_hpo.trainers._arriving import ArrivingStates


class OfTrainer:
    """A callback's arguments, and what it does the same in every trainer."""

    def __init__(self, *, delay: float = 0.333333333, frequency: float = 0.034, merge: bool = True, **arguments: Any):
        self.oialr: OIALR | None = None
        self._arguments, self._merge = {"delay": delay, "frequency": frequency, **arguments}, merge
        self._arriving: ArrivingStates | None = None

    def _step(self) -> None:
        """After a step of the optimizer."""
        assert self.oialr is not None
        self.oialr.step()

    def _end(self) -> None:
        """The training has ended."""
        if self._merge and self.oialr and self._arriving:
            self._arriving.end()
            self.oialr.merge()
            self._arriving = None
