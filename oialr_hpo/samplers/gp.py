"""Optuna's Gaussian process, which torch computes."""

from typing import TYPE_CHECKING

from oialr_hpo.samplers._study import OptunaPropagator

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class GP(OptunaPropagator):
    """Expected improvement over all that is known.

    It takes losses at face value, so it is told the normal scores of their ranks instead, afresh at every proposal.
    """

    many_goals = True
    needs = ("torch",)
    capacity = 100
    ranks = True
    idle = "middle"

    def make(self, population: int, seed: int) -> "BaseSampler":
        from optuna.samplers import GPSampler

        return GPSampler(seed=seed)
