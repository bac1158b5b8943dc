"""Trials that wait: what was behind is kept, and goes on when it is among the best that are left.

A waiting trial goes on before anything new begins, once early stopping would not stop it any more where it stands: the
share of better ones has become smaller there. At the end, when nothing new begins, waiting trials go on, the most
promising first, while they have a considerable chance to beat the best. What one may gain is told by the trials that
came to their end: by how much their goals differ there from what they were where it stands.

Checkpoints are bounded in number and size. A trial whose checkpoint is gone has ended: it is pruned.
"""

import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oialr_hpo.engines.early_stopping import Rungs
from oialr_hpo.experiment import Experiment
from oialr_hpo.files import discard
from oialr_hpo.runs.trial import Role, State, Trial

Array = NDArray[np.float64]
WAITING = 16
"""So many trials wait at most; the least promising of more are given up."""
DISK_SHARE = 0.25
"""Of the disk's room that their checkpoints take at most."""
COMPARED = 3
"""So many trials that came to their end tell what another may gain; where there are fewer it may gain anything."""
DEVIATIONS = 2.0
"""By so many standard deviations may a trial gain more than is typical, to count as one with a chance."""


class Paused:
    """The trials of a search that wait.

    Args:
        experiment: which is searched.
        rungs: how far every trial has come.
        earlier: trials of earlier sessions.
        checkpoint: where a trial is kept, by its number; None: nowhere, as in a simulation.
    """

    def __init__(
        self,
        experiment: Experiment,
        rungs: Rungs,
        earlier: Iterable[Trial] = (),
        checkpoint: Callable[[int], Path] | None = None,
    ):
        self._judged, self._rungs, self._checkpoint = experiment.early_stopping.enabled, rungs, checkpoint
        self._waiting: dict[int, Trial] = {}
        self._went_on: dict[int, float] = {}  # from which epoch
        self._ends: dict[int, list[float]] = {}  # goals of the trials that came to their end
        self._best = np.empty((0, len(experiment.score.metrics)))  # of those that compete
        for trial in earlier:
            self.ended(trial)

    def ended(self, trial: Trial) -> None:
        """Learn how a trial ended; one that is paused waits."""
        if trial.state is State.COMPLETE and trial.role is not Role.DENSE:
            self._ends[trial.number] = trial.goals
            if trial.candidate:
                self._best = np.vstack([self._best, trial.goals])
        if trial.state is not State.PAUSED:
            return
        self._waiting[trial.number] = trial
        reached = trial.epochs[-1]["epoch"] if trial.epochs else 0
        if not trial.scores or reached <= self._went_on.get(trial.number, 0):
            self._give_up(trial.number)  # it would never get any further
        while self._waiting and (len(self._waiting) > WAITING or self._crowd_the_disk()):
            self._give_up(max(self._waiting, key=self._rank))

    def next(self, last: bool) -> Trial | None:
        """The trial that goes on now, if any.

        Args:
            last: nothing new begins.
        """
        going_on = [number for number in self._waiting if not self._is_behind(number)]
        if not going_on and last:
            going_on = [number for number in self._waiting if self._has_a_chance(number)]
        if not going_on:
            return None
        trial = self._waiting.pop(min(going_on, key=self._rank))
        self._went_on[trial.number] = trial.epochs[-1]["epoch"] if trial.epochs else 0
        return trial

    def close(self) -> None:
        """Give up all that wait."""
        for number in [*self._waiting]:
            self._give_up(number)

    def _give_up(self, number: int) -> None:
        del self._waiting[number]
        if self._checkpoint:
            discard(self._checkpoint(number))

    def _is_behind(self, number: int) -> bool:
        return self._judged and (self._rungs.here(number) is None or self._rungs.stops(number))

    def _has_a_chance(self, number: int) -> bool:
        _, hoped = self._end(number)
        return not (self._best <= hoped).all(axis=1).any()

    def _rank(self, number: int) -> tuple[int, list[float], int]:
        """Small for promising trials: by how many would be ahead of its typical end, then by that."""
        typical, _ = self._end(number)
        return int((self._best <= typical).all(axis=1).sum()), typical.tolist(), number

    def _end(self, number: int) -> tuple[Array, Array]:
        """(goals,) at the end of a trial, typical ones and the best that can be hoped for."""
        here = self._rungs.here(number)
        if here is None:
            now = np.array(self._waiting[number].goals)
            return now, np.full_like(now, -np.inf)
        reached, now = self._rungs.reached(here), np.array(here.goals)
        gains = np.array([np.subtract(end, reached[one]) for one, end in self._ends.items() if one in reached])
        gains = gains[np.isfinite(gains).all(axis=1)] if len(gains) else gains
        if len(gains) < COMPARED:
            return now, np.full_like(now, -np.inf)
        typical = np.median(gains, axis=0)
        deviation = 1.4826 * np.median(np.abs(gains - typical), axis=0)
        return now + typical, now + typical - DEVIATIONS * deviation

    def _crowd_the_disk(self) -> bool:
        """Whether the checkpoints take more than their share of the room that there is for them."""
        if self._checkpoint is None:
            return False
        held = free = 0
        for number in self._waiting:
            file = self._checkpoint(number)
            with suppress(OSError):
                held += file.stat().st_size
                free = shutil.disk_usage(file.parent).free
        return held > DISK_SHARE * (held + free)
