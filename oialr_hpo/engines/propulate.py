"""A search over MPI: every rank is a worker, Propulate's asynchronous islands propose.

Rank 0 has the desk of the search: between its own trial's messages it hands out the tickets of the shared budget,
judges running trials and prints the progress. All other news travels inside Propulate's islands.
"""

import importlib
import logging
import random
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from oialr_hpo import samplers
from oialr_hpo.engines.desk import Desk, Ticket
from oialr_hpo.engines.early_stopping import Point
from oialr_hpo.engines.mpi import local_rank, on_first_rank, sleep_until, wait_for_all
from oialr_hpo.engines.population import breeds, evaluated
from oialr_hpo.engines.process import TrainingProcess
from oialr_hpo.engines.replicas import Followers, follow
from oialr_hpo.engines.signals import StopRequest
from oialr_hpo.engines.worker import Search, Worker, threads_per_worker
from oialr_hpo.experiment import Experiment
from oialr_hpo.experiment.space import Space
from oialr_hpo.runs.trial import Trial


def _load_on_first_use(name: str) -> None:
    """Put off a module's import until something in it is used."""
    if name in sys.modules:
        return
    stand_in = sys.modules[name] = ModuleType(name)

    def load(attribute: str) -> Any:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]
        return getattr(importlib.import_module(name), attribute)

    vars(stand_in)["__getattr__"] = load


# Of Propulate only its surrogates and its checks between generations, both unused here, need these two; they would be
# most of the start-up time.
_load_on_first_use("GPy")
_load_on_first_use("deepdiff")

from propulate import Pollinator  # noqa: E402
from propulate._globals import INDIVIDUAL_TAG, MIGRATION_TAG  # noqa: E402
from propulate.population import Individual  # noqa: E402
from propulate.propagators import SelectMin  # noqa: E402

ISLAND_SIZE = 16  # ranks; the sampler learns from what its island has tried, so smaller ones know less
TICKET_REQUEST, TICKET, REPORT, VERDICT, ENDED, STOP, DONE = range(1, 8)


def run(search: Search, stop: StopRequest, first: TrainingProcess | None = None) -> None:
    """Run a search to the end of its budget; every rank of COMM_WORLD calls this.

    A worker that trains alone takes over the process `first`.

    Each `search.ranks_per_trial` ranks in a row train one trial together; the first of them is the worker.
    """
    world, together = MPI.COMM_WORLD, search.ranks_per_trial
    place, sharing = local_rank()
    threads = threads_per_worker(sharing)
    group = world.Split(color=world.rank // together, key=world.rank)
    workers = world.Split(color=min(group.rank, 1), key=world.rank)
    followers = Followers(group, stop) if group.rank == 0 and together > 1 else None
    if group.rank == 0:
        _work(search, workers, followers, place, threads, stop, first if together == 1 else None)
    else:
        process = TrainingProcess(threads, search.run.output(world.rank // together, group.rank))
        try:
            follow(group, process, place, threads, stop)
        finally:
            process.close()


def _work(
    search: Search,
    comm: MPI.Comm,
    followers: Followers | None,
    place: int,
    threads: int,
    stop: StopRequest,
    process: TrainingProcess | None,
) -> None:
    """Be one of the workers, the ranks of `comm`."""
    desk: LocalDesk | RemoteDesk
    logged = search.earlier() if comm.rank == 0 else []
    earlier = on_first_rank(lambda: [_outline(trial) for trial in logged], comm)
    if comm.rank == 0:
        desk = LocalDesk(comm, Desk(search.experiment, comm.size, logged, search.deadline), stop)
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


class LocalDesk:
    """The desk as rank 0 uses it, between answering the other ranks."""

    POLL_SECONDS = 0.005

    def __init__(self, comm: MPI.Comm, desk: Desk, stop: StopRequest):
        self._desk, self._stop = desk, stop
        self._comm = comm.Dup()
        self._others = set(range(1, self._comm.size))  # that still work
        self._told = False
        self._proposed: NDArray[np.float64] | None = None

    def request(self, genes: NDArray[np.float64]) -> None:
        """Ask for a ticket, which `next` then gives: with the proposal's (d,) genes, or those that take their place."""
        self._proposed = genes

    def next(self) -> Ticket | None:
        """The next ticket, or None when the budget is spent."""
        self.serve()
        return self._desk.next(self._proposed)

    def stops(self, number: int, point: Point, judged: bool) -> bool:
        """Report a running trial's newest point; where it is judged, whether it stops early."""
        self._desk.report(number, point)
        return judged and self._desk.stops(number)

    def ended(self, trial: Trial) -> None:
        self._desk.ended(trial)

    def serve(self) -> None:
        """Handle what has arrived from other ranks."""
        if self._stop.received and not self._told:
            self._told = True
            self._desk.stop()
            for rank in self._others:
                self._comm.send(self._stop.deadline, dest=rank, tag=STOP)
        status = MPI.Status()
        while self._comm.iprobe(tag=MPI.ANY_TAG, status=status) or self._comm.iprobe(tag=MPI.ANY_TAG, status=status):
            source, tag = status.Get_source(), status.Get_tag()
            message = self._comm.recv(source=source, tag=tag)
            if tag == TICKET_REQUEST:
                self._comm.send(self._desk.next(message), dest=source, tag=TICKET)
            elif tag == REPORT:
                number, point, judged = message
                stops = self.stops(number, point, judged)
                if judged:
                    self._comm.send(stops, dest=source, tag=VERDICT)
            elif tag == ENDED:
                self._desk.ended(message)
            elif tag == STOP:
                self._stop.received, self._stop.deadline = message
            else:
                self._others.remove(source)

    def close(self) -> None:
        """Serve until every other rank has ended its last trial."""
        while self._others:
            self.serve()
            time.sleep(self.POLL_SECONDS)
        wait_for_all(self._comm)


class RemoteDesk:
    """The desk as the other ranks use it; see `LocalDesk`."""

    POLL_SECONDS = 0.2  # between looks at signals; the own trial's messages are heard at once

    def __init__(self, comm: MPI.Comm, stop: StopRequest):
        self._stop = stop
        self._comm = comm.Dup()
        self._told = False

    def request(self, genes: NDArray[np.float64]) -> None:
        self.serve()
        self._comm.send(genes, dest=0, tag=TICKET_REQUEST)

    def next(self) -> Ticket | None:
        return self._receive(TICKET)

    def stops(self, number: int, point: Point, judged: bool) -> bool:
        self._comm.send((number, point, judged), dest=0, tag=REPORT)
        return bool(judged and self._receive(VERDICT))

    def ended(self, trial: Trial) -> None:
        self._comm.send(replace(trial, epochs=trial.epochs[-1:]), dest=0, tag=ENDED)

    def serve(self) -> None:
        """Pass a request to stop on: the launcher may have signalled some ranks only."""
        if self._stop.received and not self._told:
            self._told = True
            self._comm.send((self._stop.received, self._stop.deadline), dest=0, tag=STOP)
        if self._comm.iprobe(source=0, tag=STOP):
            cut_off = self._comm.recv(source=0, tag=STOP)
            self._told = True
            if not self._stop.received:
                self._stop.received, self._stop.deadline = "rank 0", cut_off

    def close(self) -> None:
        self._comm.send(None, dest=0, tag=DONE)
        wait_for_all(self._comm)

    def _receive(self, tag: int) -> Any:
        sleep_until(lambda: self._comm.iprobe(source=0, tag=tag), longest=0.005)
        return self._comm.recv(source=0, tag=tag)


class Island(Pollinator):
    """An island of Propulate that is told of trials instead of running them.

    Individuals have one gene in [0, 1] per searched setting; `Space` alone turns them into settings.
    """

    def __init__(self, comm: MPI.Comm, space: Space, experiment: Experiment, directory: Path, sessions_seed: int):
        """All workers together.

        Args:
            comm: of the workers.
            space: what is searched.
            experiment: whose sampler, islands, budget and number of goals count.
            directory: any that exists; Propulate wants one for checkpoints, which are not written.
            sessions_seed: of the proposals; another one for every session of a search.
        """
        logging.getLogger("propulate").setLevel(logging.WARNING)
        self._immigrants: set[bytes] = set()
        knobs = experiment.islands
        count = min(knobs.count or max(1, comm.size // ISLAND_SIZE), comm.size)
        index = comm.rank * count // comm.size
        members = [[rank for rank in range(comm.size) if rank * count // comm.size == i] for i in range(count)]
        topology = np.ones((count, count), dtype=int) - np.eye(count, dtype=int)
        super().__init__(
            loss_fn=lambda individual: 0.0,
            propagator=samplers.make_propagator(
                experiment.sampler,
                space,
                samplers.Place(
                    rank=members[index].index(comm.rank),
                    workers=len(members[index]),
                    trials=experiment.trials // count,
                    seed=sessions_seed + 1000 * index,
                    goals=len(experiment.score.metrics),
                ),
            ),
            rng=random.Random(f"{sessions_seed} {comm.rank}"),
            island_idx=index,
            island_comm=comm.Split(color=index, key=comm.rank),
            propulate_comm=comm.Dup(),
            generations=-1,
            checkpoint_path=directory,
            migration_topology=topology,
            migration_prob=knobs.migration / len(members[index]) if count > 1 else 0.0,
            emigration_propagator=SelectMin,
            island_displs=np.array([ranks[0] for ranks in members]),
            island_counts=np.array([len(ranks) for ranks in members]),
        )

    def propose(self) -> Individual:
        self.receive()
        return self.propagator(self.population)

    def prepare(self) -> None:
        """Learn from what is known while the own trial runs, so that the next proposal takes less time."""
        self.receive()
        self.propagator.prepare(self.population)

    def remember(self, individual: Individual) -> None:
        """Add an evaluated individual to this rank's view of the population, as of its own breeding."""
        individual.generation = self.generation
        individual.rank = individual.current = self.island_comm.rank
        individual.island = self.island_idx
        individual.migration_steps = 0
        individual.migration_history = str(self.island_idx)
        self.population.append(individual)

    def tell(self, individual: Individual) -> None:
        """Add an evaluated individual to the population of the island, and now and then send some to the others."""
        self.remember(individual)
        for rank in range(self.island_comm.size):
            if rank != self.island_comm.rank:
                self.island_comm.send(individual, dest=rank, tag=INDIVIDUAL_TAG)
        self.generation += 1
        if self.rng.random() < self.migration_prob:
            self._send_emigrants()

    def receive(self) -> None:
        """Take in what other ranks of the island and other islands have sent.

        Propulate would describe each individual for its log, and search the whole population for one that gives way to
        each immigrant; here nothing does.
        """
        status = MPI.Status()
        while self.island_comm.iprobe(tag=INDIVIDUAL_TAG, status=status):
            self.population.append(self.island_comm.recv(source=status.Get_source(), tag=INDIVIDUAL_TAG))
        while self.migration_prob > 0 and self.propulate_comm.iprobe(tag=MIGRATION_TAG, status=status):
            for immigrant in self.propulate_comm.recv(source=status.Get_source(), tag=MIGRATION_TAG):
                genes = immigrant.position.tobytes()
                if genes not in self._immigrants:  # every rank of its island may send it
                    self._immigrants.add(genes)
                    self.population.append(immigrant)
