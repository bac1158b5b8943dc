"""Cuttlefish against numpy: stable ranks, the switch, its factors and their decay; then in the training loop."""

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from oialr_hpo.experiment import Experiment, load
from oialr_hpo.methods import Loop
from oialr_hpo.methods.cuttlefish import Cuttlefish
from oialr_hpo.training.objective import build_task, evaluate
from tests.methods.interruption import interrupted_after

INSIDE = ("1", "2", "3")
SMALL = {
    "method": "cuttlefish",
    "model.arguments.depth": 1,
    "model.arguments.embed_dim": 32,
    "data.train_images": 320,
    "training.batch_size": 32,
    "training.epochs": 4,
    "training.ema_decay": 0.5,
    "training.weight_decay": 0.1,
    "schedule.lr": 0.01,
}


def network() -> Any:
    """Three layers between the first and the last: 6 x 18 (a convolution), 5 x 12 (a transposed one), 4 x 4."""
    torch.manual_seed(0)
    inside = nn.Conv2d(2, 6, 3), nn.ConvTranspose1d(5, 4, 3), nn.Linear(4, 4)
    return nn.Sequential(nn.Linear(7, 3), *inside, nn.Linear(3, 2)).double()


def with_values(shape: tuple[int, ...], values: list[float], seed: int) -> Tensor:
    """A weight with these singular values."""
    m, n = shape[0], math.prod(shape[1:])
    draw = np.random.default_rng(seed).normal
    u, v = np.linalg.qr(draw(size=(m, m)))[0], np.linalg.qr(draw(size=(n, m)))[0]
    return torch.from_numpy((u * np.array(values)) @ v.T).reshape(shape)


class Given:
    """A step after which the layers inside have given weights; gradients are ones."""

    def __init__(self, network: nn.Module, weights: dict[str, Tensor]) -> None:
        self.network, self.weights = network, weights

    def backward(self) -> None:
        for parameter in self.network.parameters():
            parameter.grad = torch.ones_like(parameter)

    def update(self) -> bool:
        for name, weight in self.weights.items():
            self.network.get_submodule(name).weight.data.copy_(weight)  # type: ignore[union-attr]
        return True


class Stepping(Given):
    """A step of the optimizer."""

    def __init__(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(network, {})
        self.optimizer = optimizer

    def update(self) -> bool:
        self.optimizer.step()
        return True


def attached(
    network: nn.Module, total: int, optimizer: Any = None, *, per_epoch: int = 2, **settings: Any
) -> Cuttlefish:
    optimizer = optimizer or torch.optim.SGD(network.parameters(), 0.1)
    loop = Loop(network, optimizer, lambda *_: torch.zeros(()), total, per_epoch, [], iter)
    return Cuttlefish(Cuttlefish.Settings(**settings), loop)


def stable(weight: Tensor) -> float:
    values = np.linalg.svd(weight.detach().flatten(1).numpy(), compute_uv=False)
    return float((values**2).sum() / values[0] ** 2)


def trajectory(epoch: int, speed: float) -> dict[str, Tensor]:
    """Singular values other than the first fall until epoch 4, by less and less, and the last layer's ever after."""
    falls, slowly = 0.2 + 0.8 * 0.4 ** min(epoch, 4), 0.9 - speed * epoch
    return {
        "1": with_values((6, 2, 3, 3), [3.0, *(3.0 * falls * part for part in (1, 0.9, 0.8, 0.7, 0.6))], 1),
        "2": with_values((5, 4, 3), [2.0, *(2.0 * falls * part for part in (1, 0.9, 0.8, 0.7))], 2),
        "3": with_values((4, 4), [1.0, slowly, slowly, slowly], 3),
    }


@pytest.mark.parametrize(("speed", "epsilon", "epochs"), [(0.001, 0.1, 20), (0.001, 0.02, 60), (0.04, 0.1, 16)])
def test_it_switches_once_stable_ranks_stay_or_at_half_time(speed: float, epsilon: float, epochs: int) -> None:
    """The mean derivative over a twentieth of the run, at least two epochs, is at most epsilon for all layers."""
    model = network()
    before = {name: model.get_submodule(name).weight.clone() for name in INSIDE}
    method = attached(model, 2 * epochs, epsilon=epsilon)
    curves = {name: [stable(before[name])] for name in INSIDE}
    window = max(2, round(epochs / 20))
    switched_at = None
    for step in range(1, 2 * epochs + 1):
        weights = {} if method.switched else trajectory((step + 1) // 2, speed)
        method.make_step(Given(model, weights))
        if switched_at is None and step % 2 == 0:
            for name in INSIDE:
                curves[name].append(stable(weights[name]))
            slopes = [abs(curve[-1] - curve[-1 - window]) / window for curve in curves.values() if len(curve) > window]
            if (len(slopes) == 3 and max(slopes) <= epsilon) or step == epochs:
                switched_at = step
                last = weights
        assert method.switched == (switched_at is not None)
        if not method.switched:
            assert method.layers() == {} and method.parameters()[0] == sum(p.numel() for p in network().parameters())
    assert switched_at == {20: 8, 60: 12, 16: 16}[epochs]
    for name in INSIDE:
        assert method.curves[name] == pytest.approx(curves[name], abs=1e-9)
    shapes = {"1": (6, 18), "2": (5, 12), "3": (4, 4)}
    full = {name: min(shape) for name, shape in shapes.items()}
    assert method.full_layers() == full
    ranks = {name: min(full[name], math.ceil(full[name] * curves[name][-1] / curves[name][0])) for name in INSIDE}
    saving = {name: r for name, r in ranks.items() if r * sum(shapes[name]) < math.prod(shapes[name])}
    assert method.layers() == saving and set(saving) == {"1", "2"}
    total = sum(p.numel() for p in network().parameters())
    change = sum(r * sum(shapes[name]) - math.prod(shapes[name]) for name, r in saving.items())
    assert method.parameters() == (total + change, total + change)
    for name, weight in last.items():
        u, values, vt = np.linalg.svd(weight.flatten(1).numpy(), full_matrices=False)
        r = ranks[name] if name in saving else full[name]
        product = model.get_submodule(name).weight.detach().flatten(1)
        np.testing.assert_allclose(product, (u[:, :r] * values[:r]) @ vt[:r], atol=1e-12)
        if name in saving:  # both factors have the singular values' square roots
            for factor in (model.get_submodule(name).down, model.get_submodule(name).up):
                found = torch.linalg.svdvals(factor.weight.flatten(1))
                np.testing.assert_allclose(found.detach(), np.sqrt(values[:r]), atol=1e-12)


def frobenius(layer: Any) -> Tensor:
    return 0.3 / 2 * layer.weight.square().sum()


@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
def test_frobenius_decay_is_in_the_place_of_weight_decay(kind: str) -> None:
    """With SGD part of the gradient, of which momentum is taken; with AdamW beside the step, as weight decay is."""
    torch.manual_seed(0)
    model = network()
    made: Any = getattr(torch.optim, kind)
    arguments = {"momentum": 0.9} if kind == "SGD" else {}
    optimizer = made(model.parameters(), lr=0.05, weight_decay=0.3, **arguments)
    method = attached(model, 2, optimizer)
    method.make_step(Given(model, trajectory(4, 0.0)))
    assert set(method.layers()) == {"1", "2"}
    plain = copy.deepcopy(model)
    factors = {id(part.weight) for name in ("1", "2") for part in plain.get_submodule(name).children()}
    groups = [
        {"params": [p for p in plain.parameters() if (id(p) in factors) == is_factor], "weight_decay": decay}
        for is_factor, decay in ((True, 0.0), (False, 0.3))
    ]
    oracle = made(groups, lr=0.05, **arguments)
    for _ in range(3):
        method.make_step(Stepping(model, optimizer))
        Given(plain, {}).backward()
        pairs = [(p.grad, p, p.detach().clone()) for p in plain.parameters() if id(p) in factors]
        decay = torch.autograd.grad(sum(frobenius(plain[i]) for i in (1, 2)), [p for _, p, _ in pairs])
        for (gradient, _, _), of_decay in zip(pairs, decay, strict=True):
            gradient.add_(of_decay if kind == "SGD" else 0)
        oracle.step()
        for (_, parameter, _), of_decay in zip(pairs, decay, strict=True):
            parameter.data.sub_(0.05 * of_decay if kind == "AdamW" else 0)
        for ours, expected in zip(model.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)


def small(**changes: Any) -> Experiment:
    return load("vit_digits").with_settings(SMALL | changes)


@pytest.mark.parametrize(
    ("interrupted", "changes"),
    [
        (1, {"training.precision": "float16"}),
        (2, {"training.optimizer": "sgd", "schedule.lr": 0.1, "training.decay_bias_and_norm": False}),
        (3, {"training.accumulation_steps": 2}),
    ],
)
def test_an_interrupted_training_goes_on_to_the_same_numbers(
    interrupted: int, changes: dict[str, Any], tmp_path: Path
) -> None:
    weights = tmp_path / "weights.safetensors"
    records = interrupted_after(interrupted, small(**changes), tmp_path, 3, weights)
    unbroken = list(evaluate(small(**changes), seed=3))
    for key in ("train_loss", "loss", "ranks", "total_percent", "trainable_percent"):
        assert [record[key] for record in records] == [record[key] for record in unbroken]
    assert [bool(record["ranks"]) for record in records] == [False, True, True, True]
    kept = load_file(weights)
    assert sum(value.numel() for value in kept.values()) == records[-1]["parameters"]
    network = build_task(small(), seed=0, device=torch.device("cpu"), data_dir=None).build_model()
    loaded = Cuttlefish.load_weights(network, kept).state_dict()
    assert loaded.keys() == kept.keys() and all(torch.equal(loaded[name], value) for name, value in kept.items())


def test_zero_and_infinite_weights() -> None:
    """Zeros prefer no direction; what is infinite never stays, and is named where it would be factorised."""
    model = network()
    model[3].weight.data.zero_()
    method = attached(model, 8)
    assert method.curves["3"] == [4.0]
    with pytest.raises(FloatingPointError, match="layer '1': its weight holds NaN or infinity"):
        for _ in range(4):
            method.make_step(Given(model, {"1": torch.full((6, 2, 3, 3), math.inf)}))


def test_its_setting_is_searched_and_networks_without_layers_inside_are_refused() -> None:
    experiment = load("vit_digits", ["method=cuttlefish", "search.cuttlefish.epsilon={float: [0.01, 1], log: true}"])
    assert experiment.value("cuttlefish.epsilon") == 0.1
    with pytest.raises(ValueError, match="^cuttlefish: Sequential has no layer between its first and its last to make"):
        attached(nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2)), 8)
