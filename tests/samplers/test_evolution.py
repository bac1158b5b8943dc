"""What only evolution does: nothing twice, one design for all workers, losses by their order."""

import numpy as np
import pytest

from oialr_hpo.experiment import Sampler
from oialr_hpo.experiment.space import Choice, FloatRange, IntRange, Space
from oialr_hpo.samplers import Place, individual, make_propagator
from tests.samplers.population import loss, search


def test_evolution_gets_close():
    """Over twelve seeds the best loss lies between 0.001 and 0.02, where random draws of as many reach 0.2 to 0.7."""
    assert min(one.loss for one in search("evolution", trials=80)) < 0.15


def test_evolution_ignores_the_scale_of_losses():
    plain = search("evolution", trials=40)
    stretched = search("evolution", trials=40, objective=lambda one: 1e3 * loss(one) ** 3)
    assert [one.position.tolist() for one in plain] == [one.position.tolist() for one in stretched]


def test_evolution_tries_nothing_twice():
    space = Space({"a": Choice(tuple("abcde")), "b": IntRange(1, 4), "c": Choice((1, 2, 4, 8))})
    found = search("evolution", space=space, trials=78, objective=lambda one: one["a"] + one["b"])
    points = [tuple(space.decode(one).values()) for one in found]
    assert len(set(points)) == 78, "of 80 points"


def test_evolution_goes_on_when_everything_was_tried():
    space = Space({"a": Choice(("x", "y"))})
    assert len(search("evolution", space=space, trials=12, objective=lambda one: one["a"])) == 12


def test_the_start_is_one_latin_hypercube_over_all_workers():
    space = Space({"a": FloatRange(0.0, 1.0), "b": FloatRange(0.0, 1.0)})
    genes = np.array([one.position for one in search("evolution", space=space, workers=8, trials=8, objective=sum_of)])
    assert (np.sort((genes * 8).astype(int), axis=0) == np.arange(8)[:, None]).all()


def sum_of(individual):
    return float(individual.position.sum())


@pytest.mark.parametrize("seed", range(3))
def test_evolution_goes_on_where_all_that_is_known_lies_close_together(seed):
    space = Space({f"setting {i}": FloatRange(0.0, 1.0) for i in range(8)})
    propagator = make_propagator(Sampler(name="evolution"), space, Place(0, 4, 400, seed))
    known = []
    for genes in 0.5 + 5e-4 * np.random.default_rng(seed).standard_normal((200, 8)):
        one = individual(space, genes)
        one.loss = float(genes[2])
        known.append(one)
    assert np.isfinite(propagator(known).position).all()
