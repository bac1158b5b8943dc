"""Propulate's canonical particle swarm."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from oialr_hpo.experiment import Sampler
from oialr_hpo.experiment.space import Space
from oialr_hpo.samplers._population import individual, limits, propulates
from oialr_hpo.samplers._propagator import Place, Propagator


class ParticleSwarm(Propagator):
    """Constriction and clamped velocity (Poli et al. 2007): one particle per worker.

    A particle that has not flown yet, or that was read back without its velocity, starts at a random place; at the
    border it stops.
    """

    def __init__(self, settings: Sampler, space: Space, place: Place):
        super().__init__(settings, space, place)
        self._rank, self._rng = place.rank, place.stream()
        self._swarm = propulates("propagators").CanonicalPSO(2.05, 2.05, place.rank, limits(space), self._rng)

    def __call__(self, individuals: Sequence[Any], pending: Iterable[Any] = ()) -> Any:
        flying = [one for one in individuals if one.rank != self._rank or one.velocity is not None]
        if not any(one.rank == self._rank for one in flying):
            genes, slow = np.array([[self._rng.random(), self._rng.random()] for _ in self.space.parameters]).T
            velocity = 0.2 * slow - 0.1
            return individual(self.space, genes, velocity=velocity, rank=self._rank)
        moved = self._swarm(flying)
        velocity = np.where((moved.position >= 0) & (moved.position <= 1), moved.velocity, 0.0)
        return individual(self.space, moved.position, velocity=velocity, rank=self._rank)
