"""Points of the unit cube as a model must see them, and as mutations must leave them."""

import math

import numpy as np
from numpy.typing import NDArray

from oialr_hpo.experiment.space import Choice, FloatRange, Parameter, Space

Array = NDArray[np.float64]


class Geometry:
    """Points of the unit cube as the model must see them: by what they decode to."""

    def __init__(self, space: Space):
        self.parameters = tuple(space.parameters.values())
        widths = [1 if _ordered(parameter) else len(parameter.extremes()) for parameter in self.parameters]
        self.owner = np.repeat(np.arange(len(widths)), widths)  # of each feature: its parameter
        self.ordered = np.array([_ordered(parameter) for parameter in self.parameters])

    def snap(self, genes: Array) -> Array:
        """(n, d) genes, moved to the middle of all that decode to the same settings."""
        genes = np.clip(genes, 0.0, 1.0)
        return np.stack([_snap(parameter, genes[:, i]) for i, parameter in enumerate(self.parameters)], axis=1)

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
    if isinstance(parameter, Choice):
        count = len(parameter.values)
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
