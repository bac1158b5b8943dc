"""Searches in turns, without an engine: every individual is sent to the other workers as MPI would send it."""

import importlib.util
import math
import pickle

import pytest

from oialr_hpo.experiment import Sampler
from oialr_hpo.experiment.space import Choice, FloatRange, IntRange, Space
from oialr_hpo.samplers import NAMES, Place, make_propagator

SPACE = Space(
    {
        "lr": FloatRange(1e-5, 1e-1, log=True),
        "clip": FloatRange(-1.0, 10.0),
        "warmup": IntRange(0, 20),
        "frequency": IntRange(1, 1000, log=True),
        "batch": Choice((16, 32, 64)),
        "optimizer": Choice(("adamw", "sgd", "lion")),
        "nesterov": Choice((True, False)),
    }
)
FAILED = 1e12


NEEDS_CMAES = pytest.mark.skipif(importlib.util.find_spec("cmaes") is None, reason="cmaes is not installed")
CHEAP = [name for name in NAMES if name not in ("gp", "cmaes-optuna")]
ALL = [*CHEAP, pytest.param("cmaes-optuna", marks=NEEDS_CMAES)]


def loss(individual):
    """A valley in the learning rate and the warm-up, one optimizer that fails, one that is worse."""
    settings = SPACE.decode(individual)
    if settings["optimizer"] == "lion":
        return FAILED
    return abs(math.log10(settings["lr"]) + 3) + settings["warmup"] / 20 + 0.5 * (settings["optimizer"] == "sgd")


def search(name, *, trials, workers=4, seed=0, space=SPACE, objective=loss, shared=False):
    """Evaluations in turns: every individual is sent to the other workers as MPI would send it."""
    make = [make_propagator(Sampler(name=name), space, Place(rank, workers, trials, seed)) for rank in range(workers)]
    populations = [[] for _ in range(workers)]
    found = []
    for number in range(trials):
        rank = number % workers
        running = found[-workers + 1 :] if shared else []
        new = make[rank](populations[rank], running) if shared else make[rank](populations[rank])
        new.generation, new.rank, new.loss = number // workers, rank, objective(new)
        for other in range(workers):
            populations[other].append(new if other == rank else pickle.loads(pickle.dumps(new)))
        found.append(new)
    return found
