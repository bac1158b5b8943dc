"""Samplers in a space whose settings are not all searched beside each other."""

import math
from typing import Any

import numpy as np
import pytest

from oialr_hpo.experiment import Sampler
from oialr_hpo.experiment.space import MIDDLE, Space, parse_line
from oialr_hpo.samplers import Place, individual, make_propagator
from tests.samplers.population import ALL, search

LINES = {
    "k": {"float": [0.1, 2.0], "when": {"name": ["cosine", "own"]}},
    "name": {"choices": ["cosine", "halving", "own"]},
    "lr": {"float": [1e-4, 1e-1], "log": True},
    "min_lr": {"float": [1e-3, 1.0], "log": True, "times": "lr", "when": {"name": "cosine"}},
    "batch": {"int": [16, 128], "step": 16},
    "rate": {"float": [0, 1], "step": 0.1, "when": {"batch": [16, 32]}},
    "betas": {"choices": [[0.9, 0.99], [0.9, 0.999]]},
}
FILE = {"name": "halving", "k": 1.0, "lr": 1e-3, "min_lr": 0.0, "batch": 64, "rate": 0.0, "betas": [0.9, 0.99]}
SPACE = Space({key: parse_line(spec) for key, spec in LINES.items()}, FILE.__getitem__)


def loss(one: Any) -> float:
    """Best at the end of a chain: cosine, k of 1.5 and a rate of 0.7."""
    found: dict[str, Any] = SPACE.decode(one)
    far = abs(math.log10(found["lr"]) + 3) + 0.5 * (found["name"] != "cosine")
    return far + abs(found.get("k", 0) - 1.5) + abs(found.get("rate", 0) - 0.7)


@pytest.mark.parametrize("name", [*ALL, "gp"])
def test_proposals_are_points(name: str) -> None:
    found = search(name, trials=12 if name == "gp" else 24, space=SPACE, objective=loss, shared=True)
    for one in found:
        assert [*one.keys()] == [*SPACE.parameters] and ((one.position >= 0) & (one.position <= 1)).all()
        settings = SPACE.decode(one)
        assert SPACE.decode(SPACE.encode(settings)).keys() == settings.keys()
    assert len({frozenset(SPACE.decode(one)) for one in found}) > 2


@pytest.mark.parametrize("name", ["evolution", "tpe"])
def test_late_proposals_are_better_than_early_ones(name: str) -> None:
    losses = [one.loss for one in search(name, trials=60, space=SPACE, objective=loss)]
    assert np.median(losses[-20:]) < np.median(losses[:20])


def test_a_model_of_single_settings_hears_of_those_alone_that_were_searched() -> None:
    """Where it is searched, k is best at 0.3; told of a middle elsewhere, TPE would move towards that."""
    propose = make_propagator(Sampler(name="tpe"), SPACE, Place(0, 1, 60, 0))
    known = []
    for number in range(60):
        one = propose(known)
        settings: dict[str, Any] = SPACE.decode(one)
        assert all(one[key] == MIDDLE for key in LINES if key not in settings)
        one.loss = abs(settings["k"] - 0.3) if "k" in settings else 0.05
        one.rank, one.generation = 0, number
        known.append(one)
    late = [settings["k"] for one in known[-30:] if "k" in (settings := SPACE.decode(one))]
    assert np.median(late) < 0.6  # type: ignore[type-var]


def test_a_gene_that_had_no_part_is_drawn_anew() -> None:
    """Parents without k give their children every k, not their own middle."""
    propose = make_propagator(Sampler(name="evolution", random=0.0), SPACE, Place(0, 1, 400, 0))
    known = []
    for number, genes in enumerate(np.random.default_rng(0).random((60, len(SPACE)))):
        genes[[*LINES].index("name")] = MIDDLE  # halving
        one = individual(SPACE, genes)
        one.loss, one.rank, one.generation = float(number), 0, number
        known.append(one)
    found = [SPACE.decode(propose(known)) for _ in range(60)]
    tried = [settings["k"] for settings in found if "k" in settings]
    assert len(tried) > 5 and len(set(tried)) == len(tried)
