"""The samplers of Optuna: what travels with an individual, failures, packages that are missing."""

import sys

import pytest

from oialr_hpo.experiment import Sampler
from oialr_hpo.experiment.space import Choice, FloatRange, Space
from oialr_hpo.samplers import Place, SamplerError, make_propagator
from tests.samplers.population import FAILED, SPACE, search


def test_nsga2_shares_generations_between_workers():
    notes = [one.notes for one in search("nsga2", trials=40, workers=4)]
    assert {note["NSGAIISampler:generation"] for note in notes} >= {0, 1, 2}


def test_the_gaussian_process_of_optuna_survives_failures():
    space = Space({"lr": FloatRange(1e-5, 1e-1, log=True), "optimizer": Choice(("adamw", "lion"))})
    outcome = {"adamw": 0.5, "lion": FAILED}
    found = search(
        "gp", space=space, workers=1, trials=14, objective=lambda one: outcome[space.decode(one)["optimizer"]]
    )
    assert sum(space.decode(one)["optimizer"] == "adamw" for one in found[10:]) >= 2  # of 4; over eight seeds 4


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cmaes", None)
    with pytest.raises(SamplerError, match="sampler 'cmaes-optuna' needs the package cmaes: pip install cmaes"):
        make_propagator(Sampler(name="cmaes-optuna"), SPACE, Place(0, 1, 1, 0))
