"""A search on one node: Optuna proposes, `jobs` workers train."""

from multiprocessing.connection import wait

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from oialr_hpo.engines.tickets import Ticket, Tickets
from oialr_hpo.engines.worker import Search, Worker, threads_per_worker
from oialr_hpo.progress import Progress
from oialr_hpo.space import Choice, FloatRange, Parameter, Value
from oialr_hpo.trial import Assignment, Role, Trial


def run(search: Search, jobs: int) -> None:
    """Run a search to the end of its budget, going on from the trials already in its run directory."""
    earlier = search.run.trials()
    tickets = Tickets(search.experiment, earlier, search.deadline)
    progress = Progress(search.experiment.trials, jobs, earlier)
    proposer = Proposer(search, earlier)
    threads = threads_per_worker(jobs)
    workers = [Worker(search, index, index, threads) for index in range(jobs)]
    try:
        while _assign(workers, tickets, proposer, search):
            busy = {worker.connection: worker for worker in workers if worker.trial}
            for ready in wait(list(busy)):
                trial = busy[ready].poll(0)  # type: ignore[index]
                if trial:
                    proposer.tell(trial)
                    tickets.note(trial)
                    progress.finished(trial)
    finally:
        for worker in workers:
            worker.close()


def _assign(workers: list[Worker], tickets: Tickets, proposer: "Proposer", search: Search) -> bool:
    """Give every idle worker a trial; False when none is running and none is left."""
    for worker in workers:
        if worker.trial is None and (ticket := tickets.next()):
            settings = proposer.settings(ticket)
            seed = search.experiment.seed + ticket.number
            worker.start(Assignment(ticket.number, ticket.role, settings, seed))
    return any(worker.trial for worker in workers)


class Proposer:
    """Optuna's TPE over the experiment's space, told of every trial that is not its own."""

    def __init__(self, search: Search, earlier: list[Trial]):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._experiment = search.experiment
        self._distributions = {
            key: distribution(parameter) for key, parameter in search.experiment.space.parameters.items()
        }
        sampler = optuna.samplers.TPESampler(seed=search.experiment.seed + len(earlier))
        self._study = optuna.create_study(sampler=sampler)
        self._asked: dict[int, optuna.Trial] = {}
        for trial in earlier:
            if trial.finished:
                self.tell(trial)

    def settings(self, ticket: Ticket) -> dict[str, Value]:
        """The settings of a ticket: its own, or a proposal."""
        if ticket.settings is not None:
            return ticket.settings
        asked = self._asked[ticket.number] = self._study.ask(self._distributions)
        return dict(asked.params)

    def tell(self, trial: Trial) -> None:
        if trial.role is Role.DENSE:
            return
        loss = trial.loss()
        if trial.number in self._asked:
            self._study.tell(self._asked.pop(trial.number), loss)
        else:
            self._study.add_trial(
                optuna.trial.create_trial(
                    state=TrialState.COMPLETE,
                    value=loss,
                    params=dict(trial.settings),
                    distributions=self._distributions,
                )
            )


def distribution(parameter: Parameter) -> BaseDistribution:
    """Optuna's counterpart of a line of the search space."""
    if isinstance(parameter, Choice):
        return CategoricalDistribution(parameter.values)
    if isinstance(parameter, FloatRange):
        return FloatDistribution(parameter.low, parameter.high, log=parameter.log)
    return IntDistribution(parameter.low, parameter.high, log=parameter.log)
