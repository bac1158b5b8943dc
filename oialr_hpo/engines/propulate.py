"""A search over MPI: every rank is a worker, Propulate's asynchronous islands propose.

Rank 0 hands out the tickets of the shared budget and prints the progress, between its own trials' messages. All other
news travels inside Propulate's islands. MPI is imported here and nowhere else.
"""

import importlib
import logging
import random
import sys
import time
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn, TypeVar

import numpy as np
from mpi4py import MPI

from oialr_hpo.engines.samplers import make_propagator
from oialr_hpo.engines.tickets import Ticket, Tickets
from oialr_hpo.engines.worker import Search, Worker, threads_per_worker
from oialr_hpo.progress import Progress
from oialr_hpo.space import Space
from oialr_hpo.trial import Assignment, Role, Trial

T = TypeVar("T")


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


# Only Propulate's surrogates, unused here, need GPy; it would be two thirds of the start-up time.
_load_on_first_use("GPy")

from propulate import Pollinator  # noqa: E402
from propulate._globals import INDIVIDUAL_TAG  # noqa: E402
from propulate.population import Individual  # noqa: E402
from propulate.propagators import SelectMax, SelectMin  # noqa: E402

POLL_SECONDS = 0.02
ISLAND_SIZE = 16  # ranks; the sampler learns from what its island has tried, so smaller ones know less
TICKET_REQUEST, TICKET, FINISHED, DONE = 1, 2, 3, 4


def world() -> tuple[int, int]:
    """Rank and number of ranks."""
    return MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size


def on_first_rank(action: Callable[[], T]) -> T:
    """Run `action` on rank 0 and give its result, or its exception, to all ranks."""
    outcome: tuple[T | None, BaseException | None] = (None, None)
    if MPI.COMM_WORLD.rank == 0:
        try:
            outcome = (action(), None)
        except BaseException as error:  # every rank must learn of it, or the others would wait forever
            outcome = (None, error)
    result, failure = MPI.COMM_WORLD.bcast(outcome, root=0)
    if failure is not None:
        raise failure
    return result


def abort_all() -> NoReturn:
    """Print the exception in flight and stop every rank at once."""
    print(f"rank {MPI.COMM_WORLD.rank}: the search itself failed, all ranks stop", file=sys.stderr)
    traceback.print_exc()
    sys.stderr.flush()
    MPI.COMM_WORLD.Abort(1)
    raise SystemExit(1)


def run(search: Search) -> None:
    """Run a search to the end of its budget; every rank of COMM_WORLD calls this."""
    node = MPI.COMM_WORLD.Split_type(MPI.COMM_TYPE_SHARED)
    earlier = on_first_rank(search.run.trials)
    desk = Desk(search, earlier)
    island = Island(search, earlier)
    worker = Worker(search, MPI.COMM_WORLD.rank, node.rank, threads_per_worker(node.size))
    try:
        while ticket := desk.request():
            settings, individual = ticket.settings, None
            if settings is None:
                individual = island.propose()
                settings = island.space.decode(individual)
            worker.start(Assignment(ticket.number, ticket.role, settings, search.experiment.seed + ticket.number))
            while not (trial := worker.poll(POLL_SECONDS)):
                desk.serve()
            island.tell(trial, individual)
            desk.finished(trial)
    finally:
        worker.close()
    desk.close()


class Desk:
    """The shared budget: rank 0 answers requests for tickets and prints finished trials; the others ask it."""

    def __init__(self, search: Search, earlier: list[Trial]):
        self._comm = MPI.COMM_WORLD.Dup()
        self._first = self._comm.rank == 0
        if self._first:
            self._tickets = Tickets(search.experiment, earlier, search.deadline)
            self._progress = Progress(search.experiment.trials, self._comm.size, earlier)
            self._open = self._comm.size - 1

    def request(self) -> Ticket | None:
        """The next ticket, or None when the budget is spent."""
        if self._first:
            return self._tickets.next()
        self._comm.send(None, dest=0, tag=TICKET_REQUEST)
        reply = self._comm.irecv(source=0, tag=TICKET)
        while True:
            arrived, ticket = reply.test()
            if arrived:
                return ticket
            time.sleep(0.001)

    def finished(self, trial: Trial) -> None:
        """Tell rank 0 of a finished trial, for the progress."""
        if self._first:
            self._note(trial)
        else:
            trial.epochs.clear()  # the trial file has them
            self._comm.send(trial, dest=0, tag=FINISHED)

    def serve(self) -> None:
        """Let MPI make progress; on rank 0, handle what has arrived from other ranks."""
        status = MPI.Status()
        self._comm.iprobe(tag=MPI.ANY_TAG)
        while self._first and self._comm.iprobe(tag=MPI.ANY_TAG, status=status):
            source, tag = status.Get_source(), status.Get_tag()
            message = self._comm.recv(source=source, tag=tag)
            if tag == TICKET_REQUEST:
                self._comm.send(self._tickets.next(), dest=source, tag=TICKET)
            elif tag == FINISHED:
                self._note(message)
            else:
                self._open -= 1

    def _note(self, trial: Trial) -> None:
        self._tickets.note(trial)
        self._progress.finished(trial)

    def close(self) -> None:
        """Wait, without spinning, until every rank has ended its last trial."""
        if self._first:
            while self._open:
                self.serve()
                time.sleep(POLL_SECONDS)
        else:
            self._comm.send(None, dest=0, tag=DONE)
        barrier = self._comm.Ibarrier()
        while not barrier.Test():
            time.sleep(POLL_SECONDS)


class SelectWorst(SelectMax):
    """The worst individuals, none where there are too few: an island that has none yet loses none."""

    def __call__(self, individuals: list[Individual]) -> list[Individual]:
        return super().__call__(individuals) if len(individuals) >= self.offspring else []


class Island(Pollinator):
    """An island of Propulate that is told of trials instead of running them.

    Individuals have one gene in [0, 1] per searched setting; `Space` alone turns them into settings.
    """

    def __init__(self, search: Search, earlier: list[Trial]):
        comm = MPI.COMM_WORLD
        logging.getLogger("propulate").setLevel(logging.WARNING)
        self.space: Space = search.experiment.space
        self.limits = {key: (0.0, 1.0) for key in self.space.parameters}
        count = max(1, comm.size // ISLAND_SIZE)
        index = comm.rank * count // comm.size
        members = [[rank for rank in range(comm.size) if rank * count // comm.size == i] for i in range(count)]
        rng = random.Random(f"{search.experiment.seed} {len(earlier)} {comm.rank}")
        topology = np.ones((count, count), dtype=int) - np.eye(count, dtype=int)
        super().__init__(
            loss_fn=lambda individual: 0.0,
            propagator=make_propagator(
                "evolution",
                self.space,
                rank=members[index].index(comm.rank),
                workers=len(members[index]),
                trials=search.experiment.trials // count,
                seed=search.experiment.seed + 1000 * index + len(earlier),
            ),
            rng=rng,
            island_idx=index,
            island_comm=comm.Split(color=index, key=comm.rank),
            propulate_comm=comm.Dup(),
            generations=-1,
            checkpoint_path=search.run.path,
            migration_topology=topology,
            migration_prob=0.9 / len(members[index]) if count > 1 else 0.0,
            emigration_propagator=SelectMin,
            immigration_propagator=SelectWorst,
            island_displs=np.array([ranks[0] for ranks in members]),
            island_counts=np.array([len(ranks) for ranks in members]),
        )
        for trial in earlier:
            if trial.finished and trial.role is not Role.DENSE:
                self.population.append(self._individual(trial))

    def propose(self) -> Individual:
        self.receive()
        return self._breed()

    def tell(self, trial: Trial, individual: Individual | None) -> None:
        """Add a finished trial to the population of the island, and now and then send some to the others."""
        if trial.role is Role.DENSE:
            return
        individual = individual or self._individual(trial)
        individual.loss = trial.loss()
        individual.evalperiod = trial.seconds
        individual.evaltime = trial.started + trial.seconds
        self.population.append(individual)
        for rank in range(self.island_comm.size):
            if rank != self.island_comm.rank:
                self.island_comm.send(individual, dest=rank, tag=INDIVIDUAL_TAG)
        self.generation += 1
        if self.rng.random() < self.migration_prob:
            self._send_emigrants()

    def receive(self) -> None:
        """Take in what other ranks of the island and other islands have sent."""
        self._receive_intra_island_individuals()
        if self.migration_prob > 0:
            self._receive_immigrants()
            self._deactivate_replaced_individuals()

    def _individual(self, trial: Trial) -> Individual:
        """A trial whose settings were given, or that an earlier session ran, as a member of the population."""
        individual = Individual(self.space.encode(trial.settings), self.limits)
        individual.loss = trial.loss()
        individual.generation = self.generation
        individual.rank = individual.current = self.island_comm.rank
        individual.island = self.island_idx
        individual.migration_steps = 0
        individual.migration_history = str(self.island_idx)
        return individual
