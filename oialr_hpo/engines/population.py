"""Trials as a sampler sees them: individuals with losses."""

from copy import copy
from typing import Any

import numpy as np

from oialr_hpo import samplers
from oialr_hpo.experiment import Experiment
from oialr_hpo.experiment.space import as_text
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
    individual.settings, individual.number, individual.attempt = as_text(trial.settings), trial.number, trial.attempt
    return individual


class Population(list[Any]):
    """An individual for each settings that were tried, in the order in which they were first heard of; its loss is the
    mean over their trials."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._told: dict[str, dict[int, Any]] = {}  # by settings and trial

    def enter(self, individual: Any) -> None:
        """Add the individual of a trial that ended; of one that had been paused, the one there gets the new loss."""
        place = self._places.setdefault(individual.settings, len(self))
        told = self._told.setdefault(individual.settings, {})
        known = told.get(individual.number)
        if known and known.attempt >= individual.attempt:  # the news have overtaken each other
            return
        told[individual.number] = individual
        if place == len(self):
            self.append(individual)
        else:
            self[place] = further = copy(self[place])  # with all that its sampler noted
            losses = np.mean([np.atleast_1d(each.loss) for each in told.values()], axis=0).tolist()
            further.loss = losses[0] if len(losses) == 1 else losses
