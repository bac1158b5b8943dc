"""Uniform draws, which no other sampler should do worse than."""

from collections.abc import Iterable, Sequence
from typing import Any

from oialr_hpo.experiment import Sampler
from oialr_hpo.experiment.space import Space
from oialr_hpo.samplers._population import limits, propulates
from oialr_hpo.samplers._propagator import Place, Propagator


class Uniform(Propagator):
    """Every gene in [0, 1), whatever was tried."""

    many_goals = True

    def __init__(self, settings: Sampler, space: Space, place: Place):
        super().__init__(settings, space, place)
        self._draw = propulates("propagators").InitUniform(limits(space), rng=place.stream())

    def __call__(self, individuals: Sequence[Any], pending: Iterable[Any] = ()) -> Any:
        return self._draw()
