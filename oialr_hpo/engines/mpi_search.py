"""A search over MPI: every rank is a worker, Propulate's asynchronous islands propose.

Rank 0 has the desk of the search: between its own trial's messages it hands out the tickets of the shared budget,
judges running trials and prints the progress. All other news travels inside Propulate's islands.
"""

from dataclasses import replace

from oialr_hpo import samplers
from oialr_hpo.engines.desk import Desk
from oialr_hpo.engines.islands import Island
from oialr_hpo.engines.mpi import WORLD, Comm, on_first_rank
from oialr_hpo.engines.mpi_desks import LocalDesk, RemoteDesk
from oialr_hpo.engines.population import breeds, evaluated
from oialr_hpo.engines.process import TrainingProcess
from oialr_hpo.engines.replicas import Followers, follow
from oialr_hpo.engines.signals import StopRequest
from oialr_hpo.engines.worker import Search, Worker
from oialr_hpo.runs.trial import Trial


def run(search: Search, stop: StopRequest, place: int, threads: int, first: TrainingProcess | None = None) -> None:
    """Run a search to the end of its budget; every rank of COMM_WORLD calls this.

    A worker that trains alone takes over the process `first`.

    Each `search.ranks_per_trial` ranks in a row train one trial together; the first of them is the worker. A rank has
    its place among those of its node, and so many CPU threads.
    """
    world, together = WORLD, search.ranks_per_trial
    workers = world.Split(color=min(world.rank % together, 1), key=world.rank)
    if together == 1:
        _work(search, workers, None, place, threads, stop, first)
        return
    group = world.Split(color=world.rank // together, key=world.rank)
    if group.rank == 0:
        _work(search, workers, Followers(group, stop), place, threads, stop)
    else:
        process = TrainingProcess(threads, search.run.output(world.rank // together, group.rank))
        try:
            follow(group, process, place, threads, stop)
        finally:
            process.close()


def _work(
    search: Search,
    comm: Comm,
    followers: Followers | None,
    place: int,
    threads: int,
    stop: StopRequest,
    process: TrainingProcess | None = None,
) -> None:
    """Be one of the workers, the ranks of `comm`."""
    desk: LocalDesk | RemoteDesk
    logged = search.earlier() if comm.rank == 0 else []
    earlier = on_first_rank(lambda: [_outline(trial) for trial in logged], comm)
    if comm.rank == 0:
        kept, run = search.kept(logged), search.run
        shared = Desk(
            search.experiment, comm.size, logged, search.deadline,
            kept=kept, checkpoint=run.checkpoint, conclude=run.conclude,
        )  # fmt: skip
        desk = LocalDesk(comm, shared, stop)
    else:
        desk = RemoteDesk(comm, stop)
    worker = Worker(search, comm.rank, place, threads, desk.stops, followers, process)
    try:
        experiment, space = search.experiment, search.experiment.space
        island = Island(comm, space, experiment, search.run.path, sessions_seed=experiment.seed + len(earlier))
        for known in filter(breeds, earlier):
            island.remember(evaluated(known, experiment))
        worker.wait_until_ready()
        proposal = island.propose()
        desk.request(proposal.position)
        while ticket := desk.next():
            settings, individual = ticket.settings, None
            if settings is None:
                individual, proposal = proposal, None
                settings = space.decode(samplers.move(individual, ticket.genes))
            worker.start(ticket, settings)
            island.prepare()
            while not (trial := worker.poll(desk.POLL_SECONDS)):
                desk.serve()
                if stop.received or search.interrupts_now:
                    worker.interrupt(stop.deadline)
            if breeds(trial):
                island.tell(evaluated(trial, experiment, individual))
            desk.ended(trial)
            if proposal is None:
                proposal = island.propose()  # the next ticket most likely wants one
            desk.request(proposal.position)
        desk.close()
    finally:
        worker.close()
    if followers:
        followers.close()


def _outline(trial: Trial) -> Trial:
    """What other ranks need of a trial that is in the trial files."""
    return replace(trial, epochs=trial.epochs[-1:], metrics={}, best_epoch={})
