"""ThiNet against its greedy choice in lists, NumPy's least squares, and all subsets."""

import math
from copy import deepcopy
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from oialr_hpo.experiment import load
from oialr_hpo.methods import Method
from oialr_hpo.methods.cp import CP
from oialr_hpo.methods.thinet import ThiNet, greedy
from oialr_hpo.training.objective import evaluate
from tests.methods.interruption import interrupted_after
from tests.methods.reconstruction import SMALL, Idle, attach, check, network, small_task, worked_out

INTERRUPTED = SMALL | {"method": "thinet", "thinet.delay": 0.3, "thinet.span": 0.5, "training.optimizer": "sgd"}


def objective(contributions: list[list[float]], removed: list[int]) -> float:
    """Equation 6."""
    return sum(sum(row[i] for i in removed) ** 2 for row in contributions)


def removed_one_by_one(contributions: list[list[float]], number: int) -> list[int]:
    """Algorithm 1."""
    removed: list[int] = []
    for _ in range(number):
        others = [i for i in range(len(contributions[0])) if i not in removed]
        removed.append(min(others, key=lambda i: objective(contributions, [*removed, i])))
    return removed


def prune(x: Tensor, y: Tensor, weight: Tensor, width: int) -> dict[int, np.ndarray]:
    """Every output of the network as it is now is an example, not of the dense one: its contributions are summed."""
    contributions = torch.stack([x[:, i] @ weight[:, i].t() for i in range(x.shape[1])], 2).flatten(0, 1).numpy()
    removed = removed_one_by_one(contributions.tolist(), x.shape[1] - width)
    kept = [i for i in range(x.shape[1]) if i not in removed]
    scales = np.linalg.lstsq(contributions[:, kept], contributions.sum(1), rcond=None)[0]
    return {i: scale * weight[:, i].numpy() for i, scale in zip(kept, scales, strict=True)}


def test_a_network_is_pruned_as_in_the_paper() -> None:
    before = network()
    everywhere = {"images": 100, "samples": 100_000, "depth": 1.0}
    method = attach(ThiNet, deepcopy(before), delay=2, span=6, keep=0.5, **everywhere)
    state = torch.get_rng_state()
    courses = []
    for _ in range(8):
        method.make_step(Idle())
        courses.append(len(method.layers()))
    assert torch.equal(torch.get_rng_state(), state)
    assert courses == [0, 1, 1, 2, 2, 3, 3, 3]
    assert method.layers() == {"0": 4, "2": 5, "6": 3}
    check(method, before, worked_out(before, {"0": 4, "2": 5, "6": 3}, prune))


@pytest.mark.parametrize("kind", [CP, ThiNet])
def test_a_training_that_diverged_is_said_to_have(kind: type[Method]) -> None:
    model = network()
    method = attach(kind, model, delay=1)
    model[0].weight.data.fill_(math.inf)
    with pytest.raises(FloatingPointError, match=r"^layer '2': its inputs hold NaN or infinity"):
        method.make_step(Idle())


def test_the_greedy_choice_is_that_of_the_paper() -> None:
    """Never better than the best of all choices, and the best where channels have nothing in common."""
    torch.manual_seed(0)
    for correlated in (True, False):
        x = torch.randn(40, 7).double()
        x = x if correlated else torch.linalg.qr(x)[0] * torch.tensor([3.0, 1, 5, 2, 4, 7, 6])
        rows = x.tolist()
        for number in range(1, 7):
            found = greedy(x.t() @ x, number)
            assert found == removed_one_by_one(rows, number)
            least = min(objective(rows, [*choice]) for choice in combinations(range(7), number))
            assert objective(rows, found) >= least - 1e-9
            assert correlated or objective(rows, found) == pytest.approx(least)
    assert greedy(torch.eye(4).double(), 2) == [0, 1]


@pytest.mark.parametrize("interrupted", [1, 2])
def test_an_interrupted_training_goes_on_to_the_same_numbers(interrupted: int, tmp_path: Path) -> None:
    experiment = load("vgg_digits", []).with_settings(INTERRUPTED)
    weights = tmp_path / "weights.safetensors"
    records = interrupted_after(interrupted, experiment, tmp_path, 0, weights)
    for one, other in zip(records, evaluate(experiment, seed=0), strict=True):
        assert all(one[key] == other[key] for key in ("train_loss", "loss", "widths", "parameters"))
    sizes = [record["total_percent"] for record in records]
    assert sizes == sorted(sizes, reverse=True) and sizes[1] < 100 and len(records[-1]["widths"]) == 6
    task = small_task(experiment)
    loaded = ThiNet.load_weights(task.build_model(), load_file(weights)).eval()
    with torch.no_grad():
        assert task.evaluate(loaded, "validation")["loss"] == pytest.approx(records[-1]["loss"], rel=1e-5)


def test_its_rate_is_searched() -> None:
    experiment = load("vgg_digits", ["method=thinet", "search.thinet.keep={float: [0.2, 0.9]}"])
    assert "thinet.keep" in experiment.search and experiment.value("thinet.keep") == 0.5
    assert experiment.method_settings.change_over(200) == 40
