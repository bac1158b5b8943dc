"""The islands of a search over MPI: Propulate's, told of trials instead of running them."""

import importlib
import logging
import random
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from oialr_hpo import samplers
from oialr_hpo.engines.mpi import Comm, arrived
from oialr_hpo.engines.population import Population
from oialr_hpo.experiment import Experiment
from oialr_hpo.experiment.space import Space


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


class Island(Pollinator):
    """An island as one of its ranks sees it.

    Individuals have one gene in [0, 1] per searched setting; `Space` alone turns them into settings.
    """

    def __init__(self, comm: Comm, space: Space, experiment: Experiment, directory: Path, sessions_seed: int):
        """All workers together.

        Args:
            comm: of the workers.
            space: what is searched.
            experiment: whose sampler, islands, budget and number of goals count.
            directory: any that exists; Propulate wants one for checkpoints, which are not written.
            sessions_seed: of the proposals; another one for every session of a search.
        """
        logging.getLogger("propulate").setLevel(logging.WARNING)
        self._immigrants: set[tuple[int, int]] = set()
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
        self.population = Population()

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
        self.population.enter(individual)

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
        for *_, individual in arrived(self.island_comm, INDIVIDUAL_TAG):
            self.population.enter(individual)
        for *_, immigrants in arrived(self.propulate_comm, MIGRATION_TAG) if self.migration_prob > 0 else ():
            for immigrant in immigrants:
                end = immigrant.number, immigrant.attempt
                if end not in self._immigrants:  # every rank of its island may send it
                    self._immigrants.add(end)
                    self.population.enter(immigrant)
