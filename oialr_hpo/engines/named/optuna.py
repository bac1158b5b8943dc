"""A search on one node: a sampler, by default Optuna's TPE, proposes; `jobs` workers train."""

from multiprocessing.connection import wait
from typing import Any

from oialr_hpo import samplers
from oialr_hpo.engines.desk import Desk, Ticket
from oialr_hpo.engines.early_stopping import Point
from oialr_hpo.engines.plan import Plan
from oialr_hpo.engines.population import breeds, evaluated
from oialr_hpo.engines.process import TrainingProcess
from oialr_hpo.engines.signals import StopRequest
from oialr_hpo.engines.worker import Search, Worker, threads_per_worker
from oialr_hpo.experiment.space import Value
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.trial import Role, Trial

POLL_SECONDS = 0.5  # between looks at signals and timeouts; a worker with news is heard at once


class OneProcess:
    """Optuna, or another sampler, proposes to the workers of this process."""

    over_mpi = False
    unasked = True
    sampler = "tpe"

    def run(self, plan: Plan) -> RunDirectory:
        checked = plan.check()
        search = plan.prepare(checked, plan.stage(checked), threads_per_worker(plan.jobs))
        run(search, plan.jobs, plan.stop, plan.rehearsed)
        return search.run


def run(search: Search, jobs: int, stop: StopRequest, first: TrainingProcess | None = None) -> None:
    """Run a search to the end of its budget, going on from the trials already in its run directory.

    Worker 0 takes over the process `first`.
    """
    earlier = search.earlier()
    desk = Desk(search.experiment, jobs, earlier, search.deadline)
    proposer = _Proposer(search, earlier, jobs, desk)

    def stops(number: int, point: Point, judged: bool) -> bool:
        desk.report(number, point)
        return judged and desk.stops(number)

    threads = threads_per_worker(jobs)
    workers = [Worker(search, index, index, threads, stops, process=None if index else first) for index in range(jobs)]
    try:
        for worker in workers:
            worker.wait_until_ready()
        if stop.received:
            desk.stop()
        while _assign(workers, desk, proposer):
            busy = {worker.connection: worker for worker in workers if worker.trial}
            wait(list(busy), POLL_SECONDS)
            desk.tick()
            if stop.received:
                desk.stop()
            for worker in busy.values():
                if stop.received or search.interrupts_now:
                    worker.interrupt(stop.deadline)
                if trial := worker.poll(0):
                    proposer.tell(trial)
                    desk.ended(trial)
    finally:
        for worker in workers:
            worker.close()


def _assign(workers: list[Worker], desk: Desk, proposer: "_Proposer") -> bool:
    """Give every idle worker a trial; False when none is running and none is left."""
    for worker in workers:
        if worker.trial is None and (ticket := desk.next()):
            worker.start(ticket, proposer.settings(ticket, worker.index))
    return any(worker.trial for worker in workers)


class _Proposer:
    """The sampler, told of every trial.

    Samplers that want to be told of all that runs have one propagator for all workers, the others one for each.
    """

    def __init__(self, search: Search, earlier: list[Trial], workers: int, desk: Desk):
        self._desk = desk
        self._experiment, self._space = search.experiment, search.experiment.space
        self._known = [evaluated(trial, self._experiment) for trial in filter(breeds, earlier)]
        self._running: dict[int, Any] = {}
        sampler, seed = search.experiment.sampler, search.experiment.seed + len(earlier)
        assert sampler.name is not None
        shared = samplers.load(sampler.name).one_for_all
        trials, goals = search.experiment.trials, len(search.experiment.score.metrics)
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
            self._known.append(evaluated(trial, self._experiment, proposal))
