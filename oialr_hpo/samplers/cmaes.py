"""Propulate's CMA-ES."""

from collections.abc import Iterable, Sequence
from typing import Any

from oialr_hpo.experiment import Sampler
from oialr_hpo.experiment.space import Space
from oialr_hpo.samplers._geometry import reflect
from oialr_hpo.samplers._population import individual, limits, propulates
from oialr_hpo.samplers._propagator import Place, Propagator


class CovarianceAdaptation(Propagator):
    """Each worker adapts a distribution of its own to the shared individuals.

    What it draws outside the cube is folded back.
    """

    def __init__(self, settings: Sampler, space: Space, place: Place):
        super().__init__(settings, space, place)
        cma = propulates("propagators")
        self._draw = cma.CMAPropagator(cma.BasicCMA(), limits(space), pop_size=settings.population, rng=place.stream())

    def __call__(self, individuals: Sequence[Any], pending: Iterable[Any] = ()) -> Any:
        return individual(self.space, reflect(self._draw(list(individuals)).position))
