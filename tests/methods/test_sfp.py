"""Soft filter pruning against Algorithm 1 written with NumPy, and through the doors of files."""

import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from oialr_hpo.experiment import Experiment, load
from oialr_hpo.methods.sfp import SFP
from oialr_hpo.training.objective import build_task, evaluate
from tests.methods.interruption import interrupted_after
from tests.methods.pair import attached, network, worker

SMALL = {
    "method": "sfp",
    "training.epochs": 3,
    "training.batch_size": 32,
    "data.train_images": 160,
    "model.arguments": {"in_chans": 1, "img_size": 8, "width": 0.0625},
}
KEPT = {"features.0": 3} | {f"features.{i}": 6 if i == 4 else 12 if i < 15 else 23 for i in (4, 8, 11, 15, 18, 21, 24)}
"""Widths 4, 8, 16, 16, 32, ... without 30 %, rounded down."""


def small(**changes: Any) -> Experiment:
    return load("vgg_digits").with_settings(SMALL | changes)


class GivenGradients:
    """A step whose gradients are given, by name."""

    def __init__(self, method: SFP, gradients: dict[str, Tensor]):
        self.loop, self.gradients = method.loop, gradients

    def backward(self) -> None:
        for name, parameter in self.loop.model.named_parameters():
            parameter.grad = self.gradients[name].clone()

    def update(self) -> bool:
        self.loop.optimizer.step()
        self.loop.optimizer.zero_grad()
        return True


def smallest(weight: Any, number: int) -> Any:
    return np.argsort(np.sqrt((weight**2).reshape(len(weight), -1).sum(1)), kind="stable")[:number]


def test_steps_are_those_of_algorithm_1() -> None:
    """Nine steps of SGD, three an epoch; of 5 and 7 filters 40 % are 2. The average is one of the zeroed weights."""
    torch.manual_seed(0)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    method = attached(model, optimizer, average, rate=0.4)
    plain = {name: parameter.detach().numpy().copy() for name, parameter in model.named_parameters()}
    momentum = {name: np.zeros_like(value) for name, value in plain.items()}
    averaged: dict[str, Any] = {}
    for t in range(1, 10):
        gradients = {name: torch.randn(value.shape).double() for name, value in plain.items()}
        method.make_step(GivenGradients(method, gradients))
        for name in plain:
            momentum[name] = 0.9 * momentum[name] + gradients[name].numpy()
            plain[name] -= 0.1 * momentum[name]
        gone = {name: smallest(plain[name], 2) for name in ("0.weight", "2.weight")}
        for name, filters in gone.items() if t % 3 == 0 else ():
            for each in (plain, momentum, averaged):
                each[name][filters] = 0
        if t == 9:
            break
        average.update_parameters(model)
        for name, value in plain.items():
            averaged[name] = 0.5 * averaged.get(name, value) + 0.5 * value
            np.testing.assert_allclose(model.get_parameter(name).detach(), value, rtol=1e-9)
            np.testing.assert_allclose(average.module.get_parameter(name).detach(), averaged[name], rtol=1e-9)
        assert method.layers() == ({"0": 3, "2": 5} if t % 3 == 0 else {"0": 5, "2": 7})
    first, second = (np.setdiff1d(range(width), gone[name]) for name, width in (("0.weight", 5), ("2.weight", 7)))
    expected = {
        "0.weight": plain["0.weight"][first],
        "0.bias": plain["0.bias"][first],
        "2.weight": plain["2.weight"][second][:, first],
        "2.bias": plain["2.bias"][second],
        "5.weight": plain["5.weight"].reshape(3, 7, 9)[:, second].reshape(3, -1),
        "5.bias": plain["5.bias"],
    }
    for name, value in expected.items():
        np.testing.assert_allclose(model.get_parameter(name).detach(), value, rtol=1e-9)
        assert average.module.get_parameter(name).shape == value.shape
    assert method.layers() == {"0": 3, "2": 5} and method.full_layers() == {"0": 5, "2": 7}
    assert method.parameters() == (sum(value.size for value in expected.values()),) * 2


def test_what_is_removed_at_the_end_was_zero_before() -> None:
    """A network whose last epoch is not the one used is narrowed as it is: without norms and biases nothing changes."""
    torch.manual_seed(0)
    model = network()
    method = attached(model, torch.optim.SGD(model.parameters(), 0.1), rate=0.5)
    nn.init.zeros_(model[0].bias)  # type: ignore[index,arg-type]
    nn.init.zeros_(model[2].bias)  # type: ignore[index,arg-type]
    for _ in range(3):
        gradients = {n: torch.randn_like(p) * ("bias" not in n) for n, p in model.named_parameters()}
        method.make_step(GivenGradients(method, gradients))
    images = torch.randn(4, 2, 3, 3).double()
    before = model(images)
    assert method.parameters()[0] < method.parameters()[1] == sum(p.numel() for p in model.parameters())
    total = method.parameters()[0]
    torch.testing.assert_close(method.finish(model)(images), before)
    assert model[5].in_features == 4 * 9 and sum(p.numel() for p in model.parameters()) == total  # type: ignore[index]


@pytest.mark.parametrize("changes", [{}, {"training.ema_decay": 0.5}, {"training.precision": "float16"}])
def test_the_trained_network_is_smaller_and_its_weights_are_kept(changes: dict[str, Any], tmp_path: Path) -> None:
    experiment, file = small(**changes), tmp_path / "weights.safetensors"
    records = list(evaluate(experiment, seed=1, weights=file))
    assert [record["widths"] for record in records] == [KEPT] * 3
    assert records[0]["full_widths"] == {name: {3: 4, 6: 8, 12: 16, 23: 32}[width] for name, width in KEPT.items()}
    assert [record["trainable_percent"] for record in records] == [100, 100, records[0]["total_percent"]]
    assert records[-1]["total_percent"] == records[0]["total_percent"] < 55
    task = build_task(experiment, seed=1, device=torch.device("cpu"), data_dir=None)
    network = SFP.load_weights(task.build_model(), load_file(file)).eval()
    assert sum(parameter.numel() for parameter in network.parameters()) == records[-1]["parameters"]
    with torch.no_grad():
        assert task.evaluate(network, "validation")["loss"] == pytest.approx(records[-1]["loss"], rel=0.01)


@pytest.mark.parametrize("interrupted", [1, 2])
def test_an_interrupted_training_goes_on_to_the_same_numbers(interrupted: int, tmp_path: Path) -> None:
    experiment = small(**{"training.ema_decay": 0.5, "score.epoch": "best"})
    records = interrupted_after(interrupted, experiment, tmp_path, 3)
    for one, other in zip(records, evaluate(experiment, seed=3), strict=True):
        assert all(one[key] == other[key] for key in ("train_loss", "loss", "top1", "widths", "parameters"))


def test_a_training_that_ends_early_leaves_a_narrow_network(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    *_, last = evaluate(small(**{"training.patience": 1, "training.epochs": 30}), seed=1, weights=file)
    assert last["epoch"] < 30 and last["widths"] == KEPT
    assert len(load_file(file)["features.4.weight"]) == KEPT["features.4"]


def test_a_filter_stays_whatever_the_rate() -> None:
    *_, last = evaluate(small(**{"sfp.rate": 1 - 1e-12, "training.epochs": 1}), seed=1)
    assert set(last["widths"].values()) == {1}


def test_a_network_without_channels_to_remove_is_refused() -> None:
    experiment = load("vit_digits", ["method=sfp", "data.train_images=64"])
    with pytest.raises(ValueError, match="^sfp: VisionTransformer has no convolution whose channels can be removed"):
        next(evaluate(experiment, seed=0))


def test_its_rate_is_searched() -> None:
    experiment = load("vgg_digits", ["method=sfp", "search.sfp.rate={float: [0.1, 0.7]}"])
    assert "sfp.rate" in experiment.search and experiment.value("sfp.rate") == 0.3


def test_two_processes_remove_the_same_filters() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(worker, (port,), nprocs=2)
