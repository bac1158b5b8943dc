"""The CMA-ES of the package cmaes, as Optuna shares it among workers."""

from typing import TYPE_CHECKING

from oialr_hpo.samplers._study import OptunaPropagator

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class SharedCMAES(OptunaPropagator):
    """One distribution for all workers; it moves numbers only: the genes."""

    needs = ("cmaes",)
    capacity = 500
    numbers = True

    def make(self, population: int, seed: int) -> "BaseSampler":
        from optuna.samplers import CmaEsSampler

        return CmaEsSampler(seed=seed, warn_independent_sampling=False)
