"""Which losses a model takes in, and as what: it costs the same late in a search, whatever their scale."""

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def normal_scores(ascending: Array, losses: Array) -> Array:
    """Standard normal quantiles of the ranks of some `losses` among all, sorted ones; ties share their mean rank."""
    mean_rank = (np.searchsorted(ascending, losses, "left") + np.searchsorted(ascending, losses, "right") - 1) / 2
    quantile = NormalDist().inv_cdf
    return np.array([quantile((rank + 0.5) / len(ascending)) for rank in mean_rank])


def memorable(order: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """Indices of the best and of the latest `count` / 2, ascending; `order` sorts all by loss."""
    return np.union1d(order[: count // 2], np.arange(max(0, len(order) - count // 2), len(order)))
