"""DLRT against dense algebra, in the training loop, and through the doors of files."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from oialr_hpo.experiment import load
from oialr_hpo.methods import Loop, load_method
from oialr_hpo.oialr import load_low_rank
from oialr_hpo.training.objective import evaluate
from tests.methods.interruption import interrupted_after
from tests.tiny_task import Network, tiny

LR = 0.1
Batch = tuple[Tensor, Tensor]


class Plain:
    """A step of one batch, without a training loop."""

    def __init__(self, loop: Loop, batch: Batch) -> None:
        self.loop, self.batch = loop, batch

    def backward(self) -> None:
        self.loop.optimizer.zero_grad()
        self.batch[0].grad = None
        self.loop.loss(self.loop.model, self.batch).backward()

    def update(self) -> bool:
        self.loop.optimizer.step()
        self.loop.optimizer.zero_grad()
        return True


def squares(model: nn.Module, batch: Batch) -> Tensor:
    return (model(batch[0]) - batch[1]).square().sum()


def linear() -> tuple[nn.Module, Batch]:
    model = nn.Sequential(nn.Linear(9, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    return model, (torch.randn(5, 9).double().requires_grad_(), torch.randn(5, 3).double())


def convolution() -> tuple[nn.Module, Batch]:
    model = nn.Sequential(nn.Conv2d(2, 7, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(7 * 9, 3)).double()
    return model, (torch.randn(4, 2, 3, 3).double().requires_grad_(), torch.randn(4, 3).double())


def attached(model: nn.Module, optimizer: Any = None, **settings: Any) -> Any:
    kind = load_method("dlrt")
    optimizer = optimizer or torch.optim.SGD(model.parameters(), LR)
    return kind(kind.Settings(**settings), Loop(model, optimizer, squares, 10, 5, [], iter))


def oracle(dense: nn.Module, u: Tensor, s: Tensor, v: Tensor, batch: Batch, tau: float | None, most: int) -> Tensor:
    """Algorithm 1 with gradients of dense weights; `dense` is left with the step that the others make. W is given."""
    weight = dense[0].weight  # type: ignore[index]

    def gradient(w: Tensor) -> Tensor:
        weight.data = w.reshape(weight.shape)
        dense.zero_grad()
        batch[0].grad = None
        squares(dense, batch).backward()
        return weight.grad.flatten(1)

    g = gradient(u @ s @ v.T)
    k_step, l_step = u @ s - LR * g @ v, v @ s.T - LR * g.T @ u
    if tau is not None:
        k_step, l_step = torch.cat([k_step, u], 1), torch.cat([l_step, v], 1)
    u1, v1 = torch.linalg.qr(k_step)[0], torch.linalg.qr(l_step)[0]
    s1 = (u1.T @ u) @ s @ (v.T @ v1)
    s1 = s1 - LR * u1.T @ gradient(u1 @ s1 @ v1.T) @ v1
    for parameter in dense.parameters():
        parameter.data -= LR * parameter.grad * (parameter is not weight)
    if tau is None:
        return u1 @ s1 @ v1.T
    p, values, q = torch.linalg.svd(s1)
    rank = next(r for r in range(len(values) + 1) if values[r:].norm() <= tau * values.norm())
    rank = min(max(rank, 2), most)
    return u1 @ p[:, :rank] @ values[:rank].diag() @ q[:rank] @ v1.T


@pytest.mark.parametrize("network", [linear, convolution])
@pytest.mark.parametrize(("tau", "share"), [(0.0, 0.34), (0.2, 0.67), (0.5, 1.0), (None, 0.5)])
def test_a_step_is_algorithm_1(network: Callable[[], tuple[nn.Module, Batch]], tau: float | None, share: float) -> None:
    torch.manual_seed(0)
    model, batch = network()
    dense = copy.deepcopy(model)
    settings = {"adaptive": False} if tau is None else {"tolerance": tau}
    method = attached(model, rank=share, **settings)
    for _ in range(3):
        layer: Any = model[0]  # type: ignore[index]
        u, s, v = layer.u.clone(), layer.sigma.detach().clone(), layer.vt.T.clone()
        most = max(1, round(share * min(layer.weight.flatten(1).shape)))
        expected = oracle(dense, u, s, v, batch, tau, most)
        of_inputs = batch[0].grad
        method.make_step(Plain(method.loop, batch))
        torch.testing.assert_close(batch[0].grad, of_inputs, rtol=0, atol=1e-6)
        torch.testing.assert_close(layer.weight.detach().flatten(1), expected, rtol=0, atol=1e-6)
        for name, parameter in dense.named_parameters():
            if name != "0.weight":
                torch.testing.assert_close(model.get_parameter(name), parameter, rtol=0, atol=1e-6)
        for basis in (layer.u, layer.vt.T):
            torch.testing.assert_close(basis.T @ basis, torch.eye(layer.rank).double(), rtol=0, atol=1e-10)
        assert method.layers() == {"0": layer.rank} and layer.rank <= most


def test_at_full_rank_it_is_dense_descent() -> None:
    torch.manual_seed(0)
    model, batch = linear()
    dense = copy.deepcopy(model)
    optimizer = torch.optim.SGD(dense.parameters(), LR / 10)
    method = attached(model, torch.optim.SGD(model.parameters(), LR / 10), rank=1.0, tolerance=0.0)
    first: Any = model[0]  # type: ignore[index]
    for _ in range(3):
        squares(dense, batch).backward()
        optimizer.step()
        optimizer.zero_grad()
        method.make_step(Plain(method.loop, batch))
        torch.testing.assert_close(first.weight, dense[0].weight, rtol=0, atol=1e-10)  # type: ignore[index]


def test_the_states_of_k_l_and_s_follow_the_bases() -> None:
    """With M what SGD remembers of the dense gradients, K's is M V, whatever V is by now."""
    torch.manual_seed(0)
    model, batch = linear()
    optimizer = torch.optim.SGD(model.parameters(), 1e-9, momentum=0.5)
    method = attached(model, optimizer, rank=1.0, tolerance=0.0)
    for _ in range(3):
        method.make_step(Plain(method.loop, batch))
    first: Any = model[0]  # type: ignore[index]
    dense = nn.Linear(9, 6).double()
    dense.load_state_dict({"weight": first.weight.detach(), "bias": first.bias.detach()})
    squares(nn.Sequential(dense, *model[1:]), batch).backward()  # type: ignore[index]
    mean = (1 + 0.5 + 0.25) * dense.weight.grad
    s, *_, k, lt = (optimizer.state[parameter]["momentum_buffer"] for parameter in optimizer.param_groups[0]["params"])
    for ours, expected in (k, mean @ first.vt.T), (lt, first.u.T @ mean), (s, first.u.T @ mean @ first.vt.T):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


def test_ranks_fall_within_the_tolerance_and_all_is_counted() -> None:
    records = list(evaluate(tiny(**{"method": "dlrt", "dlrt.tolerance": 0.3}), seed=1))
    assert records[-1]["mse"] < records[0]["mse"]
    ranks = records[-1]["ranks"]
    assert ranks.keys() == {"stem", "blocks.0", "blocks.1"}  # the last layer is dense
    assert max(ranks.values()) <= 8 and min(ranks.values()) >= 2 and min(ranks.values()) < 8
    assert records[0]["full_ranks"] == {"stem": 8, "blocks.0": 16, "blocks.1": 16}
    shapes = {"stem": (16, 8), "blocks.0": (16, 16), "blocks.1": (16, 16)}
    inside = sum(ranks[name] * (m + n + ranks[name]) for name, (m, n) in shapes.items())
    rest = 3 * 16 + 2 * 16 + 16 * 4 + 4 + 4  # biases, norm, head, scale
    assert records[-1]["parameters"] == records[-1]["trainable_parameters"] == inside + rest
    wide = list(evaluate(tiny(**{"method": "dlrt", "dlrt.rank": 0.25, "dlrt.adaptive": False}), seed=1))
    assert [record["ranks"] for record in wide] == [{"stem": 2, "blocks.0": 4, "blocks.1": 4}] * 4


@pytest.mark.parametrize(("interrupted", "adaptive"), [(1, True), (3, False)])
def test_an_interrupted_training_goes_on_to_the_same_numbers(interrupted: int, adaptive: bool, tmp_path: Path) -> None:
    changes = {"method": "dlrt", "dlrt.tolerance": 0.3, "dlrt.adaptive": adaptive, "training.ema_decay": 0.5}
    records = interrupted_after(interrupted, tiny(**changes), tmp_path, 3)
    unbroken = list(evaluate(tiny(**changes), seed=3))
    for key in ("train_loss", "mse", "mark", "ranks", "total_percent"):
        assert [record[key] for record in records] == [record[key] for record in unbroken]


def test_a_step_in_float16_or_over_several_batches() -> None:
    for changes in ({"training.accumulation_steps": 2}, {"training.precision": "float16"}):
        records = list(evaluate(tiny(**{"method": "dlrt", "training.epochs": 2, **changes}), seed=1))
        assert records[-1]["train_loss"] < records[0]["train_loss"]


def test_weights_are_kept_and_loaded(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    records = list(evaluate(tiny(**{"method": "dlrt", "training.epochs": 1}), seed=1, weights=file))
    kept = load_file(file)
    assert len(kept["blocks.0.sigma"]) == records[-1]["ranks"]["blocks.0"]
    network = load_low_rank(Network(0.1, True), kept)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in kept.items())


def test_its_settings_are_searched() -> None:
    line = "search.dlrt.tolerance={float: [0.01, 0.3], log: true}"
    experiment = load("vit_digits", ["method=dlrt", line])
    assert experiment.trial({"dlrt.tolerance": 0.02}).value("dlrt.tolerance") == 0.02


def test_a_network_of_a_single_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="^dlrt: Sequential has no layer before its last to make low-rank$"):
        attached(nn.Sequential(nn.Linear(3, 2)))


def test_an_optimizer_that_cannot_follow_is_refused_in_its_name() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    with pytest.raises(TypeError, match="^dlrt: the optimizer LBFGS keeps .*; use another, such as"):
        attached(model, torch.optim.LBFGS(model.parameters()))
