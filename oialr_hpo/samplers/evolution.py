"""Surrogate-assisted evolution, the sampler for many workers: breed many children, train the one that a model draws."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oialr_hpo.experiment import Sampler
from oialr_hpo.experiment.space import Space
from oialr_hpo.samplers._gaussian_process import GaussianProcess
from oialr_hpo.samplers._geometry import Geometry, reflect
from oialr_hpo.samplers._losses import memorable, normal_scores
from oialr_hpo.samplers._population import individual
from oialr_hpo.samplers._propagator import Place, Propagator

Array = NDArray[np.float64]


class Evolution(Propagator):
    """One worker's part of the evolution.

    1. The first proposals of all workers together form one Latin hypercube.
    2. From then on 300 children are bred from the best individuals: parents drawn with the logarithmic rank weights of
       CMA-ES, uniform crossover, and mutations whose reach (per child, log-uniform over two decades) and number of
       genes vary, so that no step size needs tuning; unordered choices are redrawn, as are genes of settings that were
       not searched beside the parent's others. A tenth is uniformly random. Children that decode to settings already
       tried are dropped.
    3. A Gaussian process over the ranks of the losses (their normal scores: failures and scales do no harm) is
       conditioned on the best and the latest individuals, at most 200, so that a proposal costs the same late in a
       search. One function is drawn from its posterior, and its best child is proposed.

    Thompson sampling (3) is what makes it asynchronous without a word between workers: each draws a function of its
    own, so that workers with the same population propose different points where the model is in doubt, and agree only
    where it is sure (Kandasamy et al., Parallelised Bayesian Optimisation via Thompson Sampling, 2018). Choosing
    among children instead of the whole cube keeps draws near what has worked (pre-selection, Jin 2005).
    """

    CHILDREN = 300
    MEMORY = 200

    def __init__(self, settings: Sampler, space: Space, place: Place):
        super().__init__(settings, space, place)
        self._geometry, self._population = Geometry(space), place.population(settings)
        self._rng = np.random.default_rng([place.seed, place.rank])
        slices = max(place.workers, 2 * len(space))
        design = _latin_hypercube(slices, len(space), np.random.default_rng(place.seed))
        self._start_size, self._start = slices, list(self._geometry.snap(design[place.rank :: place.workers]))
        self._tried: set[bytes] = set()
        self._known = 0
        self._model = GaussianProcess(self._geometry.owner)

    def __call__(self, individuals: Sequence[Any], pending: Iterable[Any] = ()) -> Any:
        return individual(self.space, self._genes(individuals, pending))

    def _genes(self, individuals: Sequence[Any], pending: Iterable[Any]) -> Array:
        losses = self._remember(individuals)
        self._tried.update(self._settings(list(pending)))
        while self._start and len(individuals) < self._start_size:
            if (point := self._start.pop(0)).tobytes() not in self._tried:
                return point
        if len(individuals) < 3:
            return self._rng.random(len(self.space))
        order = np.argsort(losses, kind="stable")
        children = self._untried(self._breed(_genes_of(individuals[i] for i in order[: self._population])))
        if not len(children):
            return self._rng.random(len(self.space))
        self._fit(individuals, losses, order, growth=1.6)
        drawn = self._model.draw(self._geometry.features(children), self._rng)
        return children[np.argmin(drawn)]

    def prepare(self, individuals: Sequence[Any]) -> None:
        """Refine the model's hyperparameters ahead of the next proposal, where they are soon due."""
        if len(individuals) >= 3 and self._model.outgrown(len(individuals), growth=1.25):
            losses = self._remember(individuals)
            self._fit(individuals, losses, np.argsort(losses, kind="stable"), growth=1.25)

    def _fit(self, individuals: Sequence[Any], losses: Array, order: NDArray[np.intp], growth: float) -> None:
        """Condition the model on the individuals; `order` sorts them by loss."""
        kept = memorable(order, self.MEMORY)
        points = self._geometry.features(self._geometry.snap(_genes_of(individuals[i] for i in kept)))
        self._model.fit(points, normal_scores(losses[order], losses[kept]), len(losses), growth)

    def _breed(self, parents: Array) -> Array:
        """(CHILDREN, d) genes of children of `parents` (best first)."""
        rng, count, (size, d) = self._rng, self.CHILDREN, parents.shape
        weights = math.log(size + 0.5) - np.log(np.arange(1, size + 1))
        first, second = rng.choice(size, (2, count), p=weights / weights.sum())
        crossed = rng.random((count, 1)) < self.settings.crossover
        crossed = crossed & (rng.random((count, d)) < 0.5)
        children: Array = np.where(crossed, parents[second], parents[first])
        if self._geometry.conditions:
            searched = self._geometry.searched(self._geometry.snap(parents))
            children = np.where(np.where(crossed, searched[second], searched[first]), children, rng.random((count, d)))

        rate = self.settings.mutation * rng.choice([1, 2, 4], (count, 1)) / d
        mutated = rng.random((count, d)) < rate
        mutated[np.arange(count), rng.integers(d, size=count)] |= ~mutated.any(axis=1)
        reach = 10 ** rng.uniform(-2.5, -0.3, (count, 1))
        steps = reach * rng.standard_normal((count, d))
        redrawn = ~self._geometry.ordered | (rng.random((count, d)) < 0.2)
        children = np.where(mutated, np.where(redrawn, rng.random((count, d)), reflect(children + steps)), children)

        orphans = rng.random(count) < self.settings.random
        children[orphans] = rng.random((orphans.sum(), d))
        return children

    def _untried(self, children: Array) -> Array:
        snapped = self._geometry.snap(children)
        fresh = {key: point for point in snapped if (key := point.tobytes()) not in self._tried}
        return np.array(list(fresh.values()))

    def _remember(self, individuals: Sequence[Any]) -> Array:
        """The losses of all individuals; of their settings only new ones are looked at."""
        new = individuals[self._known :]
        self._known = len(individuals)
        self._tried.update(self._settings(new))
        return np.array([one.loss for one in individuals])

    def _settings(self, individuals: Sequence[Any]) -> list[bytes]:
        return [point.tobytes() for point in self._geometry.snap(_genes_of(individuals))] if individuals else []


def _latin_hypercube(count: int, d: int, rng: np.random.Generator) -> Array:
    """(count, d) points, each of `count` equal slices of each axis holding exactly one."""
    slices = rng.permuted(np.tile(np.arange(count), (d, 1)), axis=1).T
    return (slices + rng.random((count, d))) / count


def _genes_of(individuals: Iterable[Any]) -> Array:
    return np.array([one.position for one in individuals])
