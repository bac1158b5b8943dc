"""A script as users write it, which mypy checks with the package: what the fronts give has types, never `Any`."""

from pathlib import Path

import torch
from torch import nn
from typing_extensions import assert_type

import oialr_hpo
from oialr_hpo import OIALR, Experiment, Mistake, RunDirectory, State, Trial, experiment, load_low_rank, merge, search


def best(file: Path) -> Trial:
    loaded = experiment.load(str(file), ["trials=8"])
    run = search.run(loaded, out=Path("runs/mine"), jobs=2)
    assert_type(loaded, Experiment)
    assert_type(run, RunDirectory)
    assert_type(run.trials()[0].state, State)
    return min((trial for trial in run.trials() if trial.candidate), key=lambda trial: trial.goals)


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> nn.Module:
    oialr = OIALR(model, optimizer, delay=2500, frequency=500, cutoff=0.15)
    oialr.step()
    assert_type(oialr.ranks, dict[str, int])
    assert_type(load_low_rank(model, model.state_dict()), nn.Module)
    return merge(model)


def trained(file: Path) -> nn.Module:
    return oialr_hpo.load(file, merge=False)


def said(error: Mistake) -> str:
    assert_type(oialr_hpo.__version__, str)
    return f"{error} (version {oialr_hpo.__version__})"
