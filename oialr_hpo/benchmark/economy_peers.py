"""Other ways to search than ours, in virtual time over a recorded world.

Each begins with the experiment's own starts, and begins trainings until as many seconds of training are spent as its
budget of whole trainings takes on average. It exports what has the best score among the trainings that came to their
end. Optuna's samplers and pruners have their defaults, except that their unit of resource is an epoch.

NePS (PriorBand) is no dependency: `pip install neural-pipeline-search`, which wants Python 3.11 and NumPy 2, though it
works with this package's NumPy and botorch 0.12. Where it cannot be imported it is left out.
"""

import heapq
import random
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from statistics import fmean
from typing import Any

import numpy as np

from oialr_hpo.benchmark.economy_search import APART, Searched, lost
from oialr_hpo.benchmark.recorded_world import World
from oialr_hpo.experiment.space import Value
from oialr_hpo.runs.scoring import goals
from oialr_hpo.samplers import distribution

Peer = Callable[[World, int, int, int], Searched]
"""Searches (world, budget, workers, seed)."""
REPEATED = 5
"""Seeds of each setting for Wilcoxon's test, which needs four to tell anything at its default level."""
FINISHED = 3
"""How many are trained to their end after one epoch of all, as in Bohdal et al.'s and Egele et al.'s comparisons."""


@dataclass(eq=False)
class Training:
    """A training, or several of the same settings one after the other.

    Attributes:
        settings: which are trained.
        seeds: of the trainings.
        until: epochs after which it waits; it may be asked for once more.
        scores: after each epoch.
        handle: whatever its peer knows it by.
    """

    settings: dict[str, Value]
    seeds: tuple[int, ...]
    until: int
    scores: list[float] = field(default_factory=list)
    handle: Any = None
    stopped: bool = False
    _records: list[dict[str, Any]] | None = None

    def step(self, world: World) -> float:
        """Seconds of its next epoch."""
        records = self.records(world)
        at = len(self.scores)
        before = records[at - 1]["seconds"] if at % (len(records) // len(self.seeds)) else 0.0
        return float(records[at]["seconds"] - before)

    def records(self, world: World) -> list[dict[str, Any]]:
        if self._records is None:
            self._records = [record for seed in self.seeds for record in world.training(self.settings, seed)]
        return self._records

    @property
    def waits(self) -> bool:
        return len(self.scores) == self.until


def simulate(
    world: World,
    budget: int,
    workers: int,
    ask: Callable[[], Training | None],
    tell: Callable[[Training], bool],
    score: Callable[[Training], float],
) -> Searched:
    """A search.

    Args:
        world: where.
        budget: of whole trainings.
        workers: how many train at a time.
        ask: what is trained next; None: nothing until another training has ended.
        tell: hears of each epoch, and answers whether the training goes on.
        score: of a training that came to its end.
    """
    running: list[tuple[float, int, Training]] = []
    tried: list[Training] = []
    idle, now, spent = [*range(workers)], 0.0, 0.0
    while True:
        while idle and spent < budget * world.seconds and (training := ask()):
            if training not in tried:
                tried.append(training)
            seconds = training.step(world)
            heapq.heappush(running, (now + seconds, idle.pop(), training))
            spent += seconds
        if not running:
            break
        now, worker, training = heapq.heappop(running)
        training.scores.append(goals(training.records(world)[len(training.scores)], world.experiment.score)[0])
        training.stopped = not tell(training)
        if training.stopped or training.waits:
            idle.append(worker)
        else:
            seconds = training.step(world)
            heapq.heappush(running, (now + seconds, worker, training))
            spent += seconds
    ends = [each for each in tried if len(each.scores) == len(each.records(world))]
    best = min(ends, key=score)
    all_tried = [(each.settings, seed, each in ends) for each in tried for seed in each.seeds[:1]]
    return Searched(world.truth(best.settings), score(best), spent, lost(world, all_tried))


def _last(training: Training) -> float:
    return training.scores[-1]


def _optuna(
    world: World, budget: int, workers: int, seed: int, sampler: str, pruner: str | None, seeds: int = 1, **options: Any
) -> Searched:
    """A study of Optuna; with several `seeds` of all settings it reports the score of each, else of every epoch."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    made = getattr(optuna.samplers, sampler)(seed=seed)
    judge = getattr(optuna.pruners, pruner or "NopPruner")(**options)
    study = optuna.create_study(sampler=made, pruner=judge, study_name=f"{seed}")  # Hyperband's brackets depend on it
    for start in world.experiment.starts():
        study.enqueue_trial(start)
    space = {key: distribution(parameter) for key, parameter in world.space.parameters.items()}
    epochs = world.experiment.training.epochs

    def ask() -> Training:
        trial = study.ask(space)
        first = APART * seed + seeds * trial.number
        return Training(trial.params, tuple(range(first, first + seeds)), seeds * epochs, handle=trial)

    def tell(training: Training) -> bool:
        trial, passed = training.handle, len(training.scores)
        if seeds == 1 or passed % epochs == 0:
            trial.report(training.scores[-1], passed if seeds == 1 else passed // epochs)
            if not training.waits and trial.should_prune():
                if seeds == 1:
                    study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                else:
                    study.tell(trial, mean(training))  # as the pruner's page has it
                return False
        if training.waits:
            study.tell(trial, mean(training))
        return True

    def mean(training: Training) -> float:
        return fmean(training.scores[epochs - 1 :: epochs])

    return simulate(world, budget, workers, ask, tell, mean)


class _Draws:
    """The experiment's starts, then settings at random."""

    def __init__(self, world: World, seed: int):
        self._starts, self._rng, self._space = world.experiment.starts(), np.random.default_rng(seed), world.space
        self._seed = APART * seed

    def __call__(self, until: int) -> Training:
        self._seed += 1
        if self._starts:
            return Training(self._starts.pop(0), (self._seed,), until)
        genes = dict(zip(self._space.parameters, self._rng.random(len(self._space)).tolist(), strict=True))
        return Training(self._space.decode(genes), (self._seed,), until)


def at_random(world: World, budget: int, workers: int, seed: int) -> Searched:
    draw, epochs = _Draws(world, seed), world.experiment.training.epochs
    return simulate(world, budget, workers, lambda: draw(epochs), lambda training: True, _last)


def one_epoch(world: World, budget: int, workers: int, seed: int) -> Searched:
    """All the budget but what finishes the best few goes into first epochs."""
    draw, epochs = _Draws(world, seed), world.experiment.training.epochs
    first = max(FINISHED, int(budget * epochs - FINISHED * (epochs - 1)))
    begun: list[Training] = []
    chosen: list[Training] | None = None

    def ask() -> Training | None:
        nonlocal chosen
        if len(begun) < first:
            begun.append(draw(1))
            return begun[-1]
        if not all(training.scores for training in begun):
            return None
        if chosen is None:
            chosen = sorted(begun, key=_last)[:FINISHED]
        if not chosen:
            return None
        chosen[0].until = epochs
        return chosen.pop(0)

    unlimited = 2 * budget  # it has counted its epochs
    return simulate(world, unlimited, workers, ask, lambda training: True, _last)


def priorband(world: World, budget: int, workers: int, seed: int) -> Searched:
    """NePS's PriorBand over Hyperband's brackets. It believes in the better one of the starts, which are trained first;
    a training that is promoted goes on where it waited."""
    import torch

    neps = import_module("neps")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    epochs, parameters = world.experiment.training.epochs, world.space.parameters
    starts = [Training(start, (APART * seed + i,), epochs) for i, start in enumerate(world.experiment.starts())]
    first, begun = list(starts), dict[str, Training]()
    optimizer: Any = None

    def ask() -> Training | None:
        nonlocal optimizer
        if first:
            return first.pop(0)
        if not all(start.waits for start in starts):
            return None
        if optimizer is None:
            believed = world.space.encode(min(starts, key=_last).settings)
            genes = {
                f"gene{i}": neps.Float(0.0, 1.0, prior=believed[key], prior_confidence="medium")
                for i, key in enumerate(parameters)
            }
            space = type("Space", (neps.PipelineSpace,), genes | {"epoch": neps.IntegerFidelity(1, epochs)})
            optimizer = neps.AskAndTell(neps.algorithms.priorband(space()))
        asked = optimizer.ask()
        training = begun.get(asked.metadata.previous_trial_id)
        if training is None:
            settings = world.space.decode({key: asked.config[f"gene{i}"] for i, key in enumerate(parameters)})
            training = Training(settings, (APART * seed + len(starts) + len(begun),), epochs)
        training.until, training.handle = asked.config["epoch"], asked.id
        begun[asked.id] = training
        return training

    def tell(training: Training) -> bool:
        if training.handle and training.waits:
            optimizer.tell(training.handle, training.scores[-1])
        return True

    return simulate(world, budget, workers, ask, tell, _last)


def hyperband(world: World, budget: int, workers: int, seed: int) -> Searched:
    resource = {"min_resource": 1, "max_resource": world.experiment.training.epochs}
    return _optuna(world, budget, workers, seed, "TPESampler", "HyperbandPruner", **resource)


def known() -> dict[str, Peer]:
    """Those that can search here, by name."""
    peers: dict[str, Peer] = {
        "random": at_random,
        "one epoch, then 3": one_epoch,
        "ASHA": partial(_optuna, sampler="RandomSampler", pruner="SuccessiveHalvingPruner", min_resource=1),
        "TPE": partial(_optuna, sampler="TPESampler", pruner=None),
        "TPE, median": partial(_optuna, sampler="TPESampler", pruner="MedianPruner"),
        "TPE, percentile 25": partial(_optuna, sampler="TPESampler", pruner="PercentilePruner", percentile=25.0),
        "TPE, Hyperband": hyperband,
        "TPE, Wilcoxon": partial(_optuna, sampler="TPESampler", pruner="WilcoxonPruner", seeds=REPEATED),
    }
    with suppress(ImportError):
        if find_spec("neps"):
            peers["PriorBand"] = priorband
    return peers
