"""Who proposes where one process does it for all workers."""

from typing import Any

from oialr_hpo import samplers
from oialr_hpo.engines.desk import Desk, Ticket
from oialr_hpo.engines.population import Population, breeds, evaluated
from oialr_hpo.experiment import Experiment
from oialr_hpo.experiment.space import Value
from oialr_hpo.runs.trial import Role, Trial


class Proposer:
    """The sampler, told of every trial.

    Samplers that want to be told of all that runs have one propagator for all workers, the others one for each.
    """

    def __init__(self, experiment: Experiment, earlier: list[Trial], workers: int, desk: Desk):
        self._desk = desk
        self._experiment, self._space = experiment, experiment.space
        self._known = Population()
        for trial in filter(breeds, earlier):
            self._known.enter(evaluated(trial, self._experiment))
        self._running: dict[int, Any] = {}
        sampler, seed = experiment.sampler, experiment.seed + len(earlier)
        assert sampler.name is not None
        shared = samplers.load(sampler.name).one_for_all
        trials, goals = experiment.trials, len(experiment.score.metrics)
        self._propagators = [
            samplers.make_propagator(
                sampler, self._space, samplers.Place(rank, 1 if shared else workers, trials, seed, goals)
            )
            for rank in range(1 if shared else workers)
        ]

    def settings(self, ticket: Ticket, worker: int) -> dict[str, Value]:
        """The settings of a ticket: its own, or a proposal."""
        if ticket.settings is not None:
            if ticket.role is not Role.DENSE:
                self._running[ticket.number] = samplers.individual_at(self._space, ticket.settings, worker)
            return ticket.settings
        propagator = self._propagators[worker % len(self._propagators)]
        proposal = propagator(self._known, list(self._running.values()))
        samplers.move(proposal, self._desk.fresh(proposal.position))
        proposal.generation, proposal.rank = len(self._known), worker
        self._running[ticket.number] = proposal
        return self._space.decode(proposal)

    def tell(self, trial: Trial) -> None:
        proposal = self._running.pop(trial.number, None)
        if breeds(trial):
            self._known.enter(evaluated(trial, self._experiment, proposal))
