"""Optuna's NSGA-II, the sampler for several goals."""

from typing import TYPE_CHECKING

from oialr_hpo.samplers._study import OptunaPropagator

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class NSGA2(OptunaPropagator):
    """Breeds generations from their non-dominated fronts; `population` is the size of one."""

    many_goals = True
    capacity = 500
    unnoted = {"NSGAIISampler:generation": 0}

    def make(self, population: int, seed: int) -> "BaseSampler":
        from optuna.samplers import NSGAIISampler

        return NSGAIISampler(population_size=population, seed=seed)
