"""Trials as a sampler sees them: individuals with losses."""

from typing import Any

from oialr_hpo import samplers
from oialr_hpo.experiment import Experiment
from oialr_hpo.runs.trial import Role, Trial


def breeds(trial: Trial) -> bool:
    """Whether the sampler is to learn of a trial."""
    return trial.finished and trial.role is not Role.DENSE


def evaluated(trial: Trial, experiment: Experiment, proposal: Any = None) -> Any:
    """The individual of a trial that ended, with what samplers minimise: a number, or a list of one per goal.

    Args:
        trial: which ended.
        experiment: that it belongs to.
        proposal: the individual that it tried; None: its settings were given, or an earlier session ran it.
    """
    individual = proposal or samplers.individual_at(experiment.space, trial.settings, trial.worker)
    losses = trial.losses(len(experiment.score.metrics), experiment.epochs(trial.settings))
    individual.loss = losses[0] if len(losses) == 1 else losses
    return individual
