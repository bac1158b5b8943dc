"""What is believed of the best settings, for every sampler alike: some proposals are moved to where they should lie."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oialr_hpo.samplers._geometry import Geometry, reflect
from oialr_hpo.samplers._population import individual
from oialr_hpo.samplers._propagator import Propagator

Array = NDArray[np.float64]


class Believer(Propagator):
    """Proposes what another propagator proposes, or, of the settings that have a prior, values around it.

    With n individuals evaluated, a proposal is moved with probability SHARE x min(1, m / n) x evidence, where m is a
    tenth of the budget, or the number of workers if that is larger. The share falls as the weight of the prior does in
    pi-BO (Hvarfner et al., Augmenting Acquisition Functions with User Beliefs, 2022).

    The evidence is that what lies near the priors is better than what does not, whoever proposed it: the share of pairs
    of one of the best quarter and one of the others of which the better one is nearer to the priors, on the mean of the
    axes. It scales from 0 at one half (the best are no nearer than the rest) to 1 at three quarters (as when half of
    all were moved, and all of the best are of these). So it gives way to what was found, as the prior does in PriorBand
    (Mallik et al. 2023), and holds for what other islands and earlier sessions tried.

    A draw is normal around the priors, with a reach that is log-uniform, so that many are near and some far; unordered
    choices are redrawn with a probability of the reach. What has no prior stays as it was proposed.
    """

    SHARE = 0.5
    REACHES = 0.02, 0.3
    FEWEST = 4

    def __init__(self, plain: Propagator):
        super().__init__(plain.settings, plain.space, plain.place)
        self._plain, self._geometry = plain, Geometry(plain.space)
        self._rng = np.random.default_rng([plain.place.seed, plain.place.rank, 1])
        self._believed = np.array([key in plain.space.priors for key in plain.space.parameters])
        self._priors = np.array([plain.space.priors.get(key, 0.0) for key in plain.space.parameters])
        self._full = max(plain.place.workers, plain.place.trials / 10)
        self._losses: list[Any] = []
        self._apart: list[float] = []

    def __call__(self, individuals: Sequence[Any], pending: Iterable[Any] = ()) -> Any:
        proposal = self._plain(individuals, pending)
        chance, roll = self.SHARE * min(1.0, self._full / max(1, len(individuals))), self._rng.random()
        if roll >= chance or roll >= chance * self._evidence(individuals):
            return proposal
        moved = individual(self.space, np.where(self._believed, self._draw(), proposal.position))
        moved.origin = proposal.position.tobytes()
        return moved

    def prepare(self, individuals: Sequence[Any]) -> None:
        self._plain.prepare(individuals)

    def _draw(self) -> Array:
        """(d,) genes around the priors."""
        reach = np.exp(self._rng.uniform(*np.log(self.REACHES)))
        near = reflect(self._priors + reach * self._rng.standard_normal(len(self._priors)))
        redrawn = self._rng.random(len(self._priors)) < reach
        other = np.where(redrawn, self._rng.random(len(self._priors)), self._priors)
        return np.where(self._geometry.ordered, near, other)

    def _evidence(self, individuals: Sequence[Any]) -> float:
        """From 0, the best do not lie near the priors, to 1; also where too few are known."""
        if new := individuals[len(self._losses) :]:
            self._losses += [one.loss for one in new]
            snapped = self._geometry.snap(np.array([one.position for one in new]))
            self._apart += self._geometry.apart(snapped, self._priors)[:, self._believed].mean(axis=1).tolist()
        if len(self._losses) < self.FEWEST:
            return 1.0
        losses = np.array(self._losses).reshape(len(self._losses), -1)
        order = np.argsort(losses.argsort(axis=0, kind="stable").argsort(axis=0, kind="stable").sum(axis=1))
        apart = np.array(self._apart)[order]
        best, others = apart[: len(apart) // 4], np.sort(apart[len(apart) // 4 :])
        farther = len(others) - (np.searchsorted(others, best, "left") + np.searchsorted(others, best, "right")) / 2
        return float(np.clip(4 * farther.mean() / len(others) - 2, 0.0, 1.0))
