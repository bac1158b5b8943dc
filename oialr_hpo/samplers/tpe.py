"""Optuna's tree-structured Parzen estimator, the sampler for few workers."""

from typing import TYPE_CHECKING

from oialr_hpo.samplers._study import OptunaPropagator

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class TPE(OptunaPropagator):
    """Models where good and where bad trials lie, one setting at a time."""

    many_goals = True
    capacity = 200
    idle = "nothing"

    def make(self, population: int, seed: int) -> "BaseSampler":
        from optuna.samplers import TPESampler

        return TPESampler(seed=seed)
