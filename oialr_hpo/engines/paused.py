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

from oialr_hpo.engines.early_stopping import Point, Rungs
from oialr_hpo.experiment import Experiment
from oialr_hpo.files import discard
from oialr_hpo.runs.trial import Role, State, Trial

Array = NDArray[np.float64]
Gain = tuple[Array, Array]
"""(goals,) each: a typical one, and the best that can be hoped for."""
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
        goals = len(experiment.score.metrics)
        self._ends = np.empty((0, goals))  # goals of the trials that came to their end, by number; of others NaN
        self._best = np.empty((0, goals))  # of those that compete
        self._gains: dict[tuple[float, bool], Gain] = {}  # where a trial may stand, until more is known
        for trial in sorted(earlier, key=lambda trial: trial.state is State.PAUSED):
            self.ended(trial)

    def ended(self, trial: Trial) -> None:
        """Learn how a trial ended; one that is paused waits."""
        self._gains.clear()
        if trial.state is State.COMPLETE and trial.role is not Role.DENSE:
            missing = max(0, trial.number + 1 - len(self._ends))
            self._ends = np.vstack([self._ends, np.full((missing, len(trial.goals)), np.nan)])
            self._ends[trial.number] = trial.goals
            if trial.candidate:
                self._best = np.vstack([self._best, trial.goals])
        if trial.state is not State.PAUSED:
            return
        self._waiting[trial.number] = trial
        reached = trial.epochs[-1]["epoch"] if trial.epochs else 0
        if not trial.scores or reached <= self._went_on.get(trial.number, 0):
            self._give_up(trial.number)  # it has no chance, or would never come further
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

    def _end(self, number: int) -> Gain:
        """The same for the goals of a trial at its end."""
        here = self._rungs.here(number)
        if here is None:
            now = np.array(self._waiting[number].goals)
            return now, np.full_like(now, -np.inf)
        key = here.share, here.low_rank
        if key not in self._gains:
            self._gains[key] = self._gain(here)
        now, (typical, hoped) = np.array(here.goals), self._gains[key]
        return now + typical, now + hoped

    def _gain(self, point: Point) -> Gain:
        """By how much the goals of trials change from a point on."""
        numbers, reached = self._rungs.reached(point)
        ended = numbers < len(self._ends)
        gains = self._ends[numbers[ended]] - reached[ended]
        gains = gains[np.isfinite(gains).all(axis=1)]
        if len(gains) < COMPARED:
            return np.zeros(gains.shape[1]), np.full(gains.shape[1], -np.inf)
        typical = np.median(gains, axis=0)
        deviation = 1.4826 * np.median(np.abs(gains - typical), axis=0)
        return typical, typical - DEVIATIONS * deviation

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
