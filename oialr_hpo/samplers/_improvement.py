"""What a search may expect of what is left of it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from oialr_hpo.experiment.space import Space, Value
from oialr_hpo.samplers._gaussian_process import GaussianProcess
from oialr_hpo.samplers._geometry import Geometry, reflect
from oialr_hpo.samplers._losses import memorable

Array = NDArray[np.float64]
FUNCTIONS = 200
LEADERS, NEAR = 5, 0.1
"""Half of the settings are drawn near so many of the best, with this standard deviation on every axis of the cube."""
MEMORY = 200
"""So many settings tell the model of the scores, and so many may be drawn, at most."""
LEAST_SIGNAL = 0.25
"""Of the variance of the scores, that which the settings account for, where the noise would leave less."""


def chance_of_improvement(
    space: Space, settings: Sequence[dict[str, Value]], losses: Sequence[float], winner: int, noise: float, left: int
) -> float:
    """The chance that one of some settings, yet untried, is better than the winner by more than the noise.

    A Gaussian process is asked for functions that agree with the losses up to the noise. The chance is the share of
    those that have, among `left` settings, half of them drawn at random and half near the best ones, one that is so
    much smaller than at the winner. (Makarova et al., Automatic Termination for Hyperparameter Optimization, 2022,
    compare a bound on the regret with the noise. A chance can be read, and knows how many trials are left.)

    Args:
        space: that is searched.
        settings: (n,) that were tried, at least three.
        losses: (n,) of them, finite; those far above the median count as less far.
        winner: its place among them.
        noise: standard deviation of the losses of equal settings, above 0.
        left: how many may be tried yet.
    """
    geometry, rng = Geometry(space), np.random.default_rng(len(settings))
    genes = geometry.snap(np.array([[*space.encode(each).values()] for each in settings]))
    found = np.array(losses)
    found = np.minimum(found, 2 * np.median(found) - found.min())
    order = np.argsort(found, kind="stable")
    kept = np.union1d(memorable(order, MEMORY), [winner])
    scale = found[kept].std() or 1.0
    signal = max(scale**2 - noise**2, LEAST_SIGNAL * scale**2)
    model = GaussianProcess(geometry.owner, noise=min(1.0, noise**2 / signal))
    model.fit(geometry.features(genes[kept]), found[kept] / scale, len(kept), growth=1.0)
    drawn = rng.random((min(left, MEMORY), len(space)))
    near = drawn[::2]
    near[:] = reflect(genes[rng.choice(order[:LEADERS], len(near))] + NEAR * rng.standard_normal(near.shape))
    points = geometry.features(geometry.snap(np.vstack([genes[winner], drawn])))
    functions = model.functions(points, rng, FUNCTIONS) * scale
    return float((functions[0] - functions[1:].min(axis=0) > noise).mean())
