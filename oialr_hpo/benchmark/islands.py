"""The parts of `python -m oialr_hpo.benchmark search` that need MPI: `mpirun -n 16` (or 64) before the command.

Regret: our samplers propose on the real islands, in real time; a trial sleeps as long as its table says, in a scale in
which the mean is `TABLE_SECONDS`. The references are searched in virtual time.

Utilization: trials sleep instead of training, so that a machine with fewer cores than ranks does. Their lengths are
drawn once, by number, and are the same for every contender:

- ours: the whole search, `oialr_hpo.search`, with its child processes and trial files;
- plain Propulate: `propulate.Propulator` with its default propagator, where each rank works off its own quota;
- greedy: the ceiling of any shared budget, in which the next trial starts the moment a rank is free.
"""

import heapq
import logging
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from oialr_hpo.benchmark.regret import CHECKPOINTS, REFERENCES, Array, Table, report, simulate
from oialr_hpo.benchmark.sleep import MEAN, SIGMA, length, sleep
from oialr_hpo.engines import search
from oialr_hpo.engines.environment import environment
from oialr_hpo.engines.islands import Island
from oialr_hpo.engines.mpi import gather, wait_for_all
from oialr_hpo.engines.plan import with_sampler
from oialr_hpo.experiment import Experiment, Sampler, load
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.scoring import judge
from oialr_hpo.runs.trial import Role, Trial

TABLE_SECONDS = 0.25


def measure(names: Sequence[str], tables: Sequence[Table], seeds: int, trials: Sequence[int], late: int) -> None:
    """Measure on all ranks of COMM_WORLD and print on rank 0; `trials` are counted per rank, `late` ones in all."""
    comm = MPI.COMM_WORLD
    regrets: dict[str, dict[str, Array]] = {name: {} for name in names}
    for name, table in product(names, tables) if seeds else ():
        if name in REFERENCES:
            mine = [simulate(table, name, comm.size, seed) for seed in range(comm.rank, seeds, comm.size)]
            found = [regret for some in gather(mine) for regret in some]
        else:
            sampler = Sampler.model_validate({"name": name})
            found = [regret(table, sampler, seed) for seed in range(seeds)]
        regrets[name][table.name] = np.array(found)
        if comm.rank == 0 and sys.stderr.isatty():
            print(f"{name} on {table.name}", file=sys.stderr)
    if comm.rank == 0 and seeds:
        print(report(regrets, comm.size), flush=True)
    if comm.rank == 0 and trials:
        print(f"\nShare of the time of {comm.size} ranks that trials of {MEAN:g} s (sigma {SIGMA}) slept:\n")
        print("| ranks x trials | ours | plain Propulate | greedy | ours / greedy | CPU per trial, all ranks |")
        print("| --- | --- | --- | --- | --- | --- |", flush=True)
    for each in trials:
        ceiling = greedy([length(number) for number in range(each * comm.size)], comm.size)
        plain = plain_propulate(each * comm.size)
        reached, cpu = ours(each * comm.size)
        if comm.rank == 0:
            figures = f"{reached:.3f} | {plain:.3f} | {ceiling:.3f} | {reached / ceiling:.3f} | {cpu:.0f} ms"
            print(f"| {comm.size} x {each} | {figures} |", flush=True)
    if late:
        _, cpu = ours(10 * comm.size, earlier=late)
        if comm.rank == 0:
            print(f"\nCPU per trial, all ranks, with {late:,} trials in the log: {cpu:.0f} ms", flush=True)


def regret(table: Table, sampler: Sampler, seed: int) -> list[float]:
    """Lowest regret among the first 50, 100 and 200 trials to end, over all ranks of COMM_WORLD."""
    comm = MPI.COMM_WORLD
    experiment = load("vit_digits").model_copy(update={"sampler": sampler, "trials": CHECKPOINTS[-1]})
    island = Island(comm, table.space, experiment, Path(), sessions_seed=seed)
    scale = TABLE_SECONDS / table.seconds.mean()
    ends: list[tuple[float, float]] = []
    comm.Barrier()
    while len(island.population) < CHECKPOINTS[-1]:
        individual = island.propose()
        individual.loss, seconds = table.train(individual)
        individual.number, individual.attempt = comm.size * len(ends) + comm.rank, 1
        island.prepare()
        time.sleep(scale * seconds)
        ends.append((time.time(), individual.loss))
        island.tell(individual)
    wait_for_all(comm)
    island.receive()
    losses = [loss for _, loss in sorted(end for some in comm.allgather(ends) for end in some)]
    return [min(losses[:count]) for count in CHECKPOINTS]


def greedy(lengths: Sequence[float], ranks: int) -> float:
    """Utilization of `ranks` that take the next of the trials as soon as they are free."""
    free = [0.0] * ranks
    for seconds in lengths:
        heapq.heappush(free, heapq.heappop(free) + seconds)
    return sum(lengths) / (ranks * max(free))


def ours(trials: int, earlier: int = 0) -> tuple[float, float]:
    """Utilization of a search over all ranks of COMM_WORLD, and CPU milliseconds of all parents per trial (rank 0).

    `earlier` trials are in the log when it begins.
    """
    comm = MPI.COMM_WORLD
    changes = ["early_stopping.enabled=false", "dense_baseline=false", f"trials={earlier + trials}"]
    experiment = load("vit_digits", changes)
    out = Path(comm.bcast(tempfile.mkdtemp() if comm.rank == 0 else None)) / "run"
    if comm.rank == 0 and earlier:
        fill(out, experiment, earlier)
    objective = f"{sleep.__module__}:{sleep.__name__}"
    with redirect_stdout(None):
        finished = search.run(experiment, out=out, objective=objective, resume=earlier > 0)
    wait_for_all(comm)
    if comm.rank:
        return 0.0, 0.0
    usage, slept = finished.usage(), [trial.number for trial in finished.trials()[earlier:]]
    return sum(map(length, slept)) / usage.held, 1000 * usage.overhead / trials


def fill(out: Path, experiment: Experiment, trials: int) -> None:
    """Make a run directory with so many finished trials of random settings."""
    run = RunDirectory.create(out, with_sampler(experiment, "evolution"), environment(1, 1), resume=False)
    log, stream = run.log(0), np.random.default_rng(0)
    for number in range(trials):
        genes = dict(zip(experiment.space.parameters, stream.random(len(experiment.space)), strict=True))
        settings = experiment.space.decode(genes)
        trial = Trial(number, Role.PROPOSAL, settings, seed=number, worker=0, started=time.time())
        log.start(trial)
        trial.add({"epoch": 1, "error": settings["oialr.cutoff"], "trainable_percent": 10.0})
        log.epoch(trial)
        judge(trial, experiment)
        log.end(trial)
    run.release()


def plain_propulate(trials: int, genes: int = 8) -> float:
    """Utilization of Propulate's own loop with the same trials, rank r's g-th being number g * ranks + r."""
    from propulate import Propulator  # here: first `engines.islands` puts off what it needs in vain
    from propulate.utils import get_default_propagator

    comm = MPI.COMM_WORLD
    logging.getLogger("propulate").setLevel(logging.WARNING)
    stream = random.Random(comm.rank)
    limits = {f"gene {i}": (0.0, 1.0) for i in range(genes)}
    slept = [0.0]

    def loss(individual: Any) -> float:
        seconds = length(individual.generation * comm.size + comm.rank)
        time.sleep(seconds)
        slept[0] += seconds
        return float(individual["gene 0"])

    with tempfile.TemporaryDirectory() as directory:
        propulator = Propulator(
            loss,
            get_default_propagator(2 * comm.size, limits, rng=stream),
            rng=stream,
            island_comm=comm.Dup(),
            propulate_comm=comm.Dup(),
            generations=trials // comm.size,
            checkpoint_path=directory,
        )
        comm.Barrier()
        started = time.perf_counter()
        propulator.propulate(logging_interval=10**9, debug=-1)
        comm.Barrier()
        held = time.perf_counter() - started
    return float(comm.allreduce(slept[0]) / (comm.size * held))
