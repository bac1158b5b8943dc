"""Beliefs in the best settings, which every sampler has alike."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oialr_hpo.experiment import Sampler
from oialr_hpo.experiment.space import FloatRange, Line, Space
from oialr_hpo.samplers import Place, individual, make_propagator
from tests.samplers.population import ALL, SPACE, loss, search


def believing(**priors):
    lines = SPACE.parameters.items()
    return Space({key: Line(each, prior=(priors[key],) if key in priors else ()) for key, each in lines})


RIGHT = believing(lr=1e-3, warmup=0, optimizer="adamw")
WRONG = believing(lr=1e-1, warmup=20, optimizer="lion")


@pytest.mark.parametrize("name", [*ALL, "gp"])
def test_some_proposals_are_moved_and_all_are_legal(name):
    trials = 10 if name == "gp" else 24
    found = search(name, trials=trials, space=RIGHT, shared=True)
    assert all(((one.position >= 0) & (one.position <= 1)).all() for one in found)
    assert 1 < sum(hasattr(one, "origin") for one in found) < trials - 1


@pytest.mark.parametrize("name", ["evolution", "tpe", "random"])
def test_a_right_belief_helps(name):
    first = {
        kind: np.median([min(one.loss for one in search(name, trials=24, seed=seed, space=space)) for seed in range(5)])
        for kind, space in (("plain", SPACE), ("right", RIGHT))
    }
    assert first["right"] < first["plain"]


def test_a_wrong_belief_is_given_up():
    """Once four trials are known, hardly any proposal is moved any more."""
    found = [search("random", trials=60, seed=seed, space=WRONG) for seed in range(5)]
    moved = np.array([[hasattr(one, "origin") for one in each] for each in found])
    right = [search("random", trials=60, seed=seed, space=RIGHT) for seed in range(5)]
    kept = np.array([[hasattr(one, "origin") for one in each] for each in right])
    assert moved[:, 12:].sum() < kept[:, 12:].sum() / 3
    assert kept[:, 40:].mean() < kept[:, :8].mean()


def test_what_has_no_prior_stays_as_it_was_proposed():
    place = Place(0, 4, 40, 0)
    plain, moves = (make_propagator(Sampler(name="random"), space, place) for space in (SPACE, RIGHT))
    for _ in range(20):
        one, other = plain([]), moves([])
        assert all(one[key] == other[key] for key in SPACE.parameters if key not in RIGHT.priors)


@given(st.floats(0, 1), st.integers(0, 1000))
def test_a_prior_never_leaves_the_range(gene, seed):
    parameter = FloatRange(-1.0, 10.0)
    space = Space({"clip": Line(parameter, prior=(parameter.decode(gene),))})
    moves = make_propagator(Sampler(name="evolution"), space, Place(0, 1, 10, seed))
    for _ in range(8):
        one = moves([])
        assert 0 <= one.position[0] <= 1 and -1.0 <= space.decode(one)["clip"] <= 10.0


def test_earlier_sessions_count_as_evidence():
    """Of individuals that are rebuilt from trial files none is known to have been moved."""
    known = []
    for genes in np.random.default_rng(0).random((12, len(SPACE))):
        one = individual(SPACE, genes)
        one.loss, one.rank, one.generation = loss(one), 0, 0
        known.append(one)
    for space, least, most in ((RIGHT, 5, 40), (WRONG, 0, 4)):
        moves = make_propagator(Sampler(name="random"), space, Place(0, 1, 400, 1))
        assert least <= sum(hasattr(moves(known), "origin") for _ in range(40)) <= most


def test_several_goals_are_evidence_too():
    moves = make_propagator(Sampler(name="nsga2"), RIGHT, Place(0, 1, 60, 0, goals=2))
    known = []
    for number in range(20):
        one = moves(known)
        one.loss, one.rank, one.generation = [loss(one), 2 * loss(one)], 0, number
        known.append(one)
    assert any(hasattr(one, "origin") for one in known)
