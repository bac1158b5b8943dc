"""Asynchronous successive halving that knows the method: which trials are not worth finishing.

At every rung, a share of the run, a trial goes on if it is among the best 1 / `factor` of the trials that got that far
(Li et al., A System for Massively Parallel Hyperparameter Tuning, 2020, in the variant that stops trials instead of
pausing them: here those that are stopped wait, see `oialr_hpo.engines.paused`). Two things differ, since a method's
change-over costs accuracy that comes back, and changes the trainable share that a score may weigh:

- A trial is not judged within `recovery` after its change-over; a rung that falls there is put off until it ends.
- A trial is compared at equal shares of the run, and only with trials in the same phase: dense ones with dense ones,
  those that are smaller and have recovered with each other.

With several goals a trial counts as better than another if it dominates it.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from oialr_hpo.experiment import EarlyStopping, Experiment
from oialr_hpo.runs import layers
from oialr_hpo.runs.scoring import goals
from oialr_hpo.runs.trial import Role, Trial

CLOSE = 1e-9


class Point(NamedTuple):
    """Where a trial stands after an epoch.

    Attributes:
        share: of its run, in (0, 1].
        goals: its scores; empty, where the record has none.
        low_rank: whether the change-over is behind it.
        settled: whether it has had the time to recover.
    """

    share: float
    goals: list[float]
    low_rank: bool
    settled: bool


def curve(trial: Trial, experiment: Experiment) -> list[Point]:
    """The points of all epochs of a trial; none where the records lack a metric."""
    settings, epochs = experiment.early_stopping, experiment.epochs(trial.settings)
    points: list[Point] = []
    changed_over = None
    try:
        for record in trial.epochs:
            share = min(record["epoch"] / epochs, 1.0)
            if layers.kept(record) and changed_over is None:
                changed_over = share
            settled = changed_over is None or share - changed_over >= settings.recovery - CLOSE
            reached = [value if math.isfinite(value) else math.inf for value in goals(record, experiment.score)]
            points.append(Point(share, reached, changed_over is not None, settled))
    except KeyError:
        return []
    return points


def due(points: Sequence[Point], settings: EarlyStopping) -> bool:
    """Whether a trial is to be judged at the last of its points: it has passed a rung since it could be judged last."""
    if not points or not points[-1].settled or points[-1].share >= 1 - CLOSE:
        return False
    judged = [point.share for point in points[:-1] if point.settled]
    since = max(judged, default=0.0)
    return any(since + CLOSE < rung <= points[-1].share + CLOSE for rung in settings.rungs)


def stopped(trial: Trial, experiment: Experiment, stops: Callable[[int, Point, bool], bool]) -> bool:
    """Whether a running trial ends early with the last of its records.

    Args:
        stops: told the trial's number and its newest point, and whether the trial is to be judged there, since others
            are there to be compared with; answers whether it stops.
    """
    settings = experiment.early_stopping
    if not (points := curve(trial, experiment)):  # only its last record is scored
        share = min(trial.epochs[-1]["epoch"] / experiment.epochs(trial.settings), 1.0)
        return stops(trial.number, Point(share, [], low_rank=False, settled=False), False)
    judged = settings.enabled and trial.role is Role.PROPOSAL and due(points, settings)
    return stops(trial.number, points[-1], judged)


class Rungs:
    """The curves of all trials of a search, as far as known, and the judgement that compares them."""

    def __init__(self, experiment: Experiment, earlier: Iterable[Trial] = ()):
        self._settings = experiment.early_stopping
        self._curves: dict[int, list[Point]] = {}
        for trial in earlier:
            self._curves[trial.number] = curve(trial, experiment)
        # Wherever a trial was judged, (share, phase): the goals of all trials that can be compared with it there.
        self._reached: dict[tuple[float, bool], dict[int, list[float]]] = {}
        self._arrays: dict[tuple[float, bool], tuple[NDArray[np.intp], NDArray[np.float64]]] = {}  # the same

    def report(self, number: int, point: Point) -> None:
        """Learn how far a trial has come; after a restart it may be less far."""
        points = self._curves.setdefault(number, [])
        while points and points[-1].share >= point.share:
            points.pop()
        before = points[-1].share if points else 0.0
        points.append(point)
        for (share, low_rank), reached in self._reached.items():
            if before < share - CLOSE <= point.share:
                _enter(reached, share, low_rank, number, points)
                self._arrays.pop((share, low_rank), None)

    def here(self, number: int) -> Point | None:
        """Where a trial was reported last; None where that is not known."""
        points = self._curves.get(number)
        return points[-1] if points else None

    def reached(self, point: Point) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """All trials that can be compared with one that is at this point: (n,) numbers and (n, goals) goals there."""
        key = point.share, point.low_rank
        if key not in self._reached:
            self._reached[key] = {}
            for other, points in self._curves.items():
                _enter(self._reached[key], *key, other, points)
        if key not in self._arrays:
            found = self._reached[key]
            goals = np.array([*found.values()], float).reshape(len(found), len(point.goals))
            self._arrays[key] = np.array([*found], np.intp), goals
        return self._arrays[key]

    def stops(self, number: int) -> bool:
        """Whether a trial is to be stopped where it was reported last."""
        here = self._curves[number][-1]
        numbers, goals = self.reached(here)
        others = goals[numbers != number]
        if len(others) < self._settings.minimum:
            return False
        dominate = (others <= here.goals).all(axis=1) & (others < here.goals).any(axis=1)
        return bool(dominate.sum() >= (len(others) + 1) / self._settings.factor)


def _enter(reached: dict[int, list[float]], share: float, low_rank: bool, number: int, points: list[Point]) -> None:
    """Add a trial that has come as far as `share`, if it can be compared there."""
    if not points or points[-1].share < share - CLOSE:
        return
    count = bisect_right(points, share + CLOSE, key=lambda point: point.share)
    if count and points[count - 1].settled and points[count - 1].low_rank == low_rank:
        reached[number] = points[count - 1].goals
