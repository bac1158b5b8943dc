"""No settings are proposed twice while the search space holds others.

Samplers repeat themselves, and workers that propose at the same time do not know of each other. The desk knows all that
was given out: a proposal that repeats some of it is moved to a point nearby that was not tried.
"""

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import product

import numpy as np
from numpy.typing import NDArray

from oialr_hpo.experiment.space import Choice, FloatRange, IntRange, Parameter, Space, SpaceError, Value
from oialr_hpo.runs.printing import say

Array = NDArray[np.float64]
LISTED = 20_000
"""Spaces of at most so many points are searched for an untried one; in larger ones it is drawn."""
DRAWS, REACHES = 32, np.geomspace(0.01, 1.0, 12)


class Repeats:
    """The points of a space that were given out, over all workers and sessions.

    Args:
        space: what is searched.
        given: settings of earlier trials.
        seed: of the draws.
    """

    def __init__(self, space: Space, given: Iterable[Mapping[str, Value]], seed: int):
        self._space, self._rng = space, np.random.default_rng(seed)
        parameters = list(space.parameters.values())
        self._small = math.prod(_levels(parameter) for parameter in parameters) <= LISTED
        self._unordered = np.array([isinstance(parameter, Choice) for parameter in parameters], bool)
        self._left: dict[tuple[float, ...], None] | None = None  # of a small space, once that is asked for
        self._said = False
        self._given: set[tuple[float, ...]] = set()
        for settings in given:
            with suppress(SpaceError):  # of a damaged file: nothing repeats them
                self.add(settings)

    def add(self, settings: Mapping[str, Value]) -> None:
        """Note settings that are tried on purpose."""
        self._give(tuple(self._space.encode(settings).values()))

    def fresh(self, genes: Array) -> Array:
        """A point for a proposal at (d,) genes: these, or where they were given out before a point nearby that was not.

        Once all points were given out, they repeat.
        """
        key = self._key(genes)
        if key in self._given:
            near = self._nearest(genes) if self._small else self._near(genes)
            if near is None:
                self._say()
                return genes
            genes, key = near, self._key(near)
        self._give(key)
        return genes

    def _give(self, key: tuple[float, ...]) -> None:
        self._given.add(key)
        if self._left is not None:
            self._left.pop(key, None)

    def _key(self, genes: Array) -> tuple[float, ...]:
        settings = self._space.decode(dict(zip(self._space.parameters, genes.tolist(), strict=True)))
        return tuple(self._space.encode(settings).values())

    def _near(self, genes: Array) -> Array | None:
        """A point drawn from ever wider around; None where hardly any can be left."""
        for reach in REACHES:
            for _ in range(DRAWS):
                moved = self._rng.random(len(genes)) < 1 / len(genes)
                moved[self._rng.integers(len(genes))] = True
                steps = genes + reach * self._rng.standard_normal(len(genes))
                folded = 1 - np.abs(steps % 2 - 1)  # back at the borders
                point = np.where(moved, np.where(self._unordered, self._rng.random(len(genes)), folded), genes)
                if self._key(point) not in self._given:
                    return point
        return None

    def _nearest(self, genes: Array) -> Array | None:
        """The nearest point that is left of a small space, any of those that are equally near."""
        if self._left is None:
            axes = [_genes(parameter) for parameter in self._space.parameters.values()]
            points: Iterable[tuple[float, ...]] = product(*axes)
            if self._space.conditions:
                points = (self._key(np.array(point)) for point in points)
            self._left = dict.fromkeys(point for point in points if point not in self._given)
        if not self._left:
            return None
        left = np.array(list(self._left))
        apart = np.abs(left - np.array(self._key(genes)))
        apart = np.where(self._unordered, 0.5 * (apart > 0), apart).sum(axis=1)
        nearest: Array = left[self._rng.choice(np.flatnonzero(apart <= apart.min() + 1e-9))]
        return nearest

    def _say(self) -> None:
        if not self._said:
            self._said = True
            message = "all points of the search space have been tried: trials repeat them, and their mean counts"
            say(message, "stderr")


def _levels(parameter: Parameter) -> float:
    """How many values there are."""
    if isinstance(parameter, FloatRange):
        return math.inf
    return parameter.high - parameter.low + 1 if isinstance(parameter, IntRange) else len(parameter.values)


def _genes(parameter: Parameter) -> list[float]:
    """One gene for each value of a finite parameter."""
    assert not isinstance(parameter, FloatRange)
    values = range(parameter.low, parameter.high + 1) if isinstance(parameter, IntRange) else parameter.values
    return [parameter.encode(value) for value in values]
