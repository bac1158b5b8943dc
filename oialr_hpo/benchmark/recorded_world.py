"""A search space in which trainings cost nothing: what they become is known from recorded ones.

A few extremely randomized trees (Geurts et al. 2006) interpolate the mean curves of the recorded settings; what they
say is the truth. They are so few, and their leaves so small, that good settings differ from each other as much as the
recorded ones do beyond their noise; more trees would make the world smoother than it is, and noise more important.

A training adds to the truth how a recorded training of similar settings differed from the mean of its seeds, as a share
of that mean, over its whole curve. Settings of which a training failed are left out, and the experiment's own starts: a
search tries these first, and their truth is to be known no better than that of others.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oialr_hpo.benchmark.records import Records
from oialr_hpo.experiment import Experiment
from oialr_hpo.experiment.space import Value, as_text
from oialr_hpo.runs.scoring import goals

TREES, LEAF = 4, 1
AS_GOOD, SIMILAR = 60, 15
"""The noise of a training is that of one of the most `SIMILAR` settings among those whose scores are nearest."""
LAYER = "layer"
PARTS = {"even": 0, "odd": 1}

Array = NDArray[np.float64]


class World:
    """An experiment as its records tell it.

    Args:
        records: of it, with two seeds at least.
        part: which of the records count: the `even` ones or the `odd` ones, by their place, or None: all.

    Attributes:
        experiment: what was recorded.
        seconds: of a training, on average over the records.
        settings: how many are known.
    """

    def __init__(self, records: Records, part: str | None = None):
        self.experiment: Experiment = records.experiment
        self.space = self.experiment.space
        self._names = [name for name in records.curves if name != "seconds"]
        left_out = ~np.all([np.isfinite(curve).all(axis=(1, 2)) for curve in records.curves.values()], axis=0)
        given = [as_text(start) for start in self.experiment.starts()]
        left_out |= np.array([as_text(each) in given for each in records.settings])
        places = [p for p in range(len(left_out)) if not left_out[p] and (part is None or p % 2 == PARTS[part])]
        curves = {name: records.curves[name][places].astype(float) for name in self._names}
        self._points = np.array([[*self.space.encode(records.settings[p]).values()] for p in places])
        seconds = np.diff(records.curves["seconds"][places], axis=2, prepend=0.0).min(axis=1)
        self.seconds, self.settings = float(seconds.sum(axis=1).mean()), len(places)
        self.seeds, self._epochs = records.low_rank.shape[1:]
        means = {name: curve.mean(axis=1) for name, curve in curves.items()}
        low_rank = records.low_rank[places].mean(axis=1)
        self._trees = _Trees(self._points, np.concatenate([*means.values(), seconds, low_rank], axis=1))
        widened = (self.seeds / (self.seeds - 1)) ** 0.5  # deviations from a mean that they are part of
        self._noise = {name: widened * _deviations(curve) for name, curve in curves.items()}
        last = [{name: mean[p, -1] for name, mean in means.items()} for p in range(len(places))]
        self._scores = np.array([goals(record, self.experiment.score)[0] for record in last])

    def truth(self, settings: Mapping[str, Value]) -> float:
        """The mean score of trainings with these settings, turned so that smaller is better."""
        return goals(self._mean(self._genes(settings))[-1], self.experiment.score)[0]

    def training(self, settings: Mapping[str, Value], seed: int) -> Iterator[dict[str, Any]]:
        """The records of one training; equal seeds give equal ones."""
        genes, rng = self._genes(settings), np.random.default_rng(seed)
        like, which = rng.choice(self._similar(genes)), rng.integers(self.seeds)
        for epoch, record in enumerate(self._mean(genes)):
            noisy = {name: record[name] * max(1 + self._noise[name][like, which, epoch], 0) for name in self._names}
            yield record | noisy

    def score(self, settings: Mapping[str, Value], seed: int) -> float:
        """Of one training at its end, turned so that smaller is better."""
        return goals([*self.training(settings, seed)][-1], self.experiment.score)[0]

    def _genes(self, settings: Mapping[str, Value]) -> tuple[float, ...]:
        return tuple(self.space.encode(settings).values())

    @cache  # noqa: B019 (lives as long as the world)
    def _mean(self, genes: tuple[float, ...]) -> list[dict[str, Any]]:
        """The mean records, one per epoch."""
        *curves, seconds, low_rank = self._trees(np.array(genes)).reshape(-1, self._epochs)
        passed = np.cumsum(seconds)
        return [
            {"epoch": epoch + 1, **{name: float(curve[epoch]) for name, curve in zip(self._names, curves, strict=True)}}
            | {"seconds": float(passed[epoch])}
            | ({"ranks": {LAYER: 1}} if low_rank[epoch] > 0.5 else {})
            for epoch in range(self._epochs)
        ]

    @cache  # noqa: B019
    def _similar(self, genes: tuple[float, ...]) -> NDArray[np.intp]:
        """Places of settings whose noise a training may have."""
        score = goals(self._mean(genes)[-1], self.experiment.score)[0]
        as_good = np.argsort(np.abs(self._scores - score), kind="stable")[:AS_GOOD]
        apart = np.abs(self._points[as_good] - np.array(genes)).sum(axis=1)
        return as_good[np.argsort(apart, kind="stable")[:SIMILAR]]


def _deviations(curves: Array) -> Array:
    """(n, seeds, epochs) curves as shares by which they differ from their means over the seeds."""
    means = curves.mean(axis=1, keepdims=True)
    return np.where(means == 0, 0.0, curves / np.where(means == 0, 1.0, means) - 1)


class _Trees:
    """Extremely randomized trees, asked for one point at a time, which scikit-learn's own are slow at."""

    def __init__(self, points: Array, targets: Array):
        from sklearn.ensemble import ExtraTreesRegressor

        forest = ExtraTreesRegressor(TREES, min_samples_leaf=LEAF, random_state=0).fit(points, targets)
        trees = [each.tree_ for each in forest.estimators_]
        roots = np.cumsum([0, *(tree.node_count for tree in trees)])
        self._roots = roots[:-1]
        self._feature = np.concatenate([tree.feature for tree in trees])
        self._threshold = np.concatenate([tree.threshold for tree in trees])
        self._left = np.concatenate([tree.children_left + root for tree, root in zip(trees, roots, strict=False)])
        self._right = np.concatenate([tree.children_right + root for tree, root in zip(trees, roots, strict=False)])
        self._values = np.concatenate([tree.value[:, :, 0] for tree in trees])

    def __call__(self, point: Array) -> Array:
        """The targets at a point."""
        at, point = self._roots, point.astype(np.float32)
        while (inner := self._feature[at] >= 0).any():
            left = point[self._feature[at]] <= self._threshold[at]
            at = np.where(inner, np.where(left, self._left[at], self._right[at]), at)
        mean: Array = self._values[at].mean(axis=0)
        return mean
