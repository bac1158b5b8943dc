"""Points of the unit cube as a model must see them, and as mutations must leave them."""

import math

import numpy as np
from numpy.typing import NDArray

from oialr_hpo.experiment.space import MIDDLE, Choice, FloatRange, Parameter, Space, Steps

Array = NDArray[np.float64]
CLOSE = 1e-9
MIDDLING = 1 / 3
"""How far two points of an axis lie apart on average."""


class Geometry:
    """Points of the unit cube as the model must see them: by what they decode to."""

    def __init__(self, space: Space):
        self.parameters = tuple(space.parameters.values())
        widths = [1 if _ordered(parameter) else len(parameter.extremes()) for parameter in self.parameters]
        self.owner = np.repeat(np.arange(len(widths)), widths)  # of each feature: its parameter
        self.ordered = np.array([_ordered(parameter) for parameter in self.parameters])
        places = {key: place for place, key in enumerate(space.parameters)}
        self.conditions = [
            (places[key], places[other], np.array([space.parameters[other].encode(value) for value in values]))
            for key, others in space.conditions.items()
            for other, values in others.items()
        ]

    def snap(self, genes: Array) -> Array:
        """(n, d) genes, moved to the middle of all that decode to the same settings."""
        genes = np.clip(genes, 0.0, 1.0)
        snapped = np.stack([_snap(parameter, genes[:, i]) for i, parameter in enumerate(self.parameters)], axis=1)
        return np.where(self.searched(snapped), snapped, MIDDLE) if self.conditions else snapped

    def searched(self, snapped: Array) -> NDArray[np.bool_]:
        """Which of (n, d) snapped genes are of settings that are searched beside the others."""
        found = np.ones(snapped.shape, bool)
        for place, other, genes in self.conditions:
            allowed = (np.abs(snapped[:, other, None] - genes) < CLOSE).any(axis=1)
            found[:, place] &= found[:, other] & allowed
        return found

    def apart(self, snapped: Array, point: Array) -> Array:
        """(n, d) distances on each axis between (n, d) and (d,) snapped genes; unordered choices that differ, and what
        is not searched beside the others, count as a middling one."""
        between = np.abs(snapped - point)
        between = np.where(self.ordered | (between < CLOSE), between, MIDDLING)
        return np.where(self.searched(snapped), between, MIDDLING)

    def features(self, snapped: Array) -> Array:
        """(n, d) snapped genes to (n, features): unordered choices become corners at distance 1 of each other."""
        columns = []
        for i, parameter in enumerate(self.parameters):
            if self.ordered[i]:
                columns.append(snapped[:, i : i + 1])
            else:
                count = len(parameter.extremes())
                chosen = np.minimum((snapped[:, i] * count).astype(int), count - 1)
                columns.append(np.eye(count)[chosen] / math.sqrt(2))
        return np.hstack(columns)


def _ordered(parameter: Parameter) -> bool:
    """Whether neighbours on the axis are alike: ranges, and choices that are numbers listed in order."""
    if not isinstance(parameter, Choice):
        return True
    values = parameter.values
    if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in values):
        return False
    return list(values) in (sorted(values), sorted(values, reverse=True))  # type: ignore[type-var]


def _snap(parameter: Parameter, genes: Array) -> Array:
    if isinstance(parameter, (Choice, Steps)):
        count = parameter.count if isinstance(parameter, Steps) else len(parameter.values)
        return (np.minimum(np.floor(genes * count), count - 1) + 0.5) / count
    if isinstance(parameter, FloatRange):
        return genes
    low, high = parameter.low - 0.5, parameter.high + 0.5
    values = np.exp(math.log(low) + genes * math.log(high / low)) if parameter.log else low + genes * (high - low)
    values = np.clip(np.floor(values + 0.5), parameter.low, parameter.high)
    return np.log(values / low) / math.log(high / low) if parameter.log else (values - low) / (high - low)


def reflect(genes: Array) -> Array:
    """Fold what lies outside [0, 1] back at the borders."""
    folded = np.mod(genes, 2.0)
    return np.where(folded > 1.0, 2.0 - folded, folded)
