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
    individual.number, individual.attempt = trial.number, trial.attempt
    return individual


def enter(individuals: list[Any], individual: Any) -> None:
    """Add the individual of a trial that ended; of one that had been paused it takes the earlier one's place."""
    for place, other in enumerate(individuals if individual.attempt > 1 else ()):
        if other.number == individual.number:
            if other.attempt < individual.attempt:  # else news have overtaken each other
                individuals[place] = individual
                for name, value in vars(other).items():
                    vars(individual).setdefault(name, value)  # what its sampler noted
            return
    individuals.append(individual)
