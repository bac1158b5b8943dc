"""A search on one node: a sampler, by default Optuna's TPE, proposes; `jobs` workers train."""

from multiprocessing.connection import wait

from oialr_hpo.engines.desk import Desk
from oialr_hpo.engines.early_stopping import Point
from oialr_hpo.engines.plan import Plan
from oialr_hpo.engines.process import TrainingProcess
from oialr_hpo.engines.proposer import Proposer
from oialr_hpo.engines.signals import StopRequest
from oialr_hpo.engines.worker import Search, Worker, threads_per_worker
from oialr_hpo.runs.directory import RunDirectory

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
    kept, run = search.kept(earlier), search.run
    desk = Desk(
        search.experiment, jobs, earlier, search.deadline, kept=kept, checkpoint=run.checkpoint, conclude=run.conclude
    )
    proposer = Proposer(search.experiment, earlier, jobs, desk)

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
        desk.close()
    finally:
        for worker in workers:
            worker.close()


def _assign(workers: list[Worker], desk: Desk, proposer: Proposer) -> bool:
    """Give every idle worker a trial; False when none is running and none is left."""
    for worker in workers:
        if worker.trial is None and (ticket := desk.next()):
            worker.start(ticket, proposer.settings(ticket, worker.index))
    return any(worker.trial for worker in workers)
