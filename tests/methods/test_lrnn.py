"""LRNN against the learning-compression algorithm written plainly in numpy, and through the doors of files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from oialr_hpo.experiment import load
from oialr_hpo.methods import Loop
from oialr_hpo.methods.lrnn import LRNN
from oialr_hpo.training.objective import evaluate
from tests.methods.interruption import interrupted_after
from tests.tiny_task import Network, tiny

LR = 0.05
SETTINGS = {"delay": 2, "compression": 7, "iterations": 3, "cost_weight": 3.0, "penalty": 1.0, "growth": 1.7}
PHASES = {"method": "lrnn", "lrnn.delay": 8, "lrnn.compression": 8, "lrnn.iterations": 3}
PHASES |= {"lrnn.cost_weight": 0.1, "lrnn.penalty": 0.03, "lrnn.growth": 1.5}
Batch = tuple[Tensor, Tensor]


class Plain:
    """A step of one batch, without a training loop."""

    def __init__(self, loop: Loop, batch: Batch, made: bool = True) -> None:
        self.loop, self.batch, self.made = loop, batch, made

    def backward(self) -> None:
        self.loop.optimizer.zero_grad()
        self.loop.loss(self.loop.model, self.batch).backward()

    def update(self) -> bool:
        if self.made:
            self.loop.optimizer.step()
        return self.made


def squares(model: nn.Module, batch: Batch) -> Tensor:
    return (model(batch[0]) - batch[1]).square().mean()


def convolutions() -> tuple[nn.Module, list[Batch]]:
    """Two convolutions, at 16 and 4 positions, and a linear layer."""
    layers = nn.Conv2d(2, 9, 3, padding=1), nn.Tanh(), nn.Conv2d(9, 8, 3, stride=2, padding=1), nn.Flatten()
    model = nn.Sequential(*layers, nn.Linear(32, 12)).double()
    return model, [(torch.randn(3, 2, 4, 4).double(), torch.randn(3, 12).double()) for _ in range(12)]


def attached(model: nn.Module, batches: list[Batch], **settings: Any) -> LRNN:
    optimizer = torch.optim.SGD(model.parameters(), LR)
    loop = Loop(model, optimizer, squares, len(batches), 6, [], lambda: iter(batches))
    return LRNN(LRNN.Settings(**settings), loop)


class Oracle:
    """The algorithm in numpy; gradients of the augmented Lagrangian, as it is written, are autograd's."""

    def __init__(self, model: nn.Module, positions: dict[str, int]) -> None:
        self.model = model
        shapes = {name: self.matrix(name).shape for name in positions}
        dense = sum(positions[name] * m * n for name, (m, n) in shapes.items())
        self.of_a_rank = {name: positions[name] * (m + n) / dense for name, (m, n) in shapes.items()}
        self.theta: dict[str, Any] = {}
        self.multipliers = {name: np.zeros(shape) for name, shape in shapes.items()}
        self.ranks: dict[str, int] = {}

    def matrix(self, name: str) -> Any:
        return self.model.get_parameter(f"{name}.weight").detach().flatten(1).numpy().copy()

    def c_step(self, mu: float) -> None:
        for name, of_a_rank in self.of_a_rank.items():
            w = self.matrix(name)
            target = w - self.multipliers[name] / mu
            u, s, vt = np.linalg.svd(target, full_matrices=False)
            cuts = {r: u[:, :r] @ np.diag(s[:r]) @ vt[:r] for r in range(1, len(s) + 1)}
            worth = {
                r: SETTINGS["cost_weight"] * r * of_a_rank + mu / 2 * ((target - cut) ** 2).sum() / (target**2).sum()
                for r, cut in cuts.items()
            }
            self.ranks[name] = min(worth, key=lambda r: worth[r])
            self.theta[name] = cuts[self.ranks[name]]
            self.multipliers[name] = self.multipliers[name] - mu * (w - self.theta[name])

    def train(self, batch: Batch, mu: float) -> None:
        loss = squares(self.model, batch)
        for name, theta in self.theta.items():
            target = torch.from_numpy(theta + self.multipliers[name] / mu)
            loss = loss + mu / 2 * (self.model.get_parameter(f"{name}.weight").flatten(1) - target).square().sum()
        self.model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter -= LR * parameter.grad


@pytest.mark.parametrize(
    ("cost", "positions"), [("parameters", {"0": 1, "2": 1, "4": 1}), ("flops", {"0": 16, "2": 4, "4": 1})]
)
def test_its_steps_are_those_of_the_algorithm(cost: str, positions: dict[str, int]) -> None:
    """C steps before the third step, and behind the fourth, the sixth and the ninth; one more step is not made, as in
    float16 at times. Then the network computes what it would with every Θ that is smaller, and all of it is trained."""
    torch.manual_seed(0)
    model, batches = convolutions()
    oracle = Oracle(convolutions()[0], positions)
    oracle.model.load_state_dict(model.state_dict())
    random = torch.get_rng_state()
    method = attached(model, batches, cost=cost, **SETTINGS)
    assert torch.equal(torch.get_rng_state(), random) and model.training
    mu = [SETTINGS["penalty"] * SETTINGS["growth"] ** k for k in range(4)]
    k = 0
    for t, batch in enumerate(batches[:9]):
        assert method.layers() == {}
        if t == 2:
            oracle.c_step(mu[0])
            k = 1
        if t == 5:
            method.make_step(Plain(method.loop, batches[-1], made=False))
        oracle.train(batch, mu[k])
        method.make_step(Plain(method.loop, batch))
        if t + 1 in (4, 6):
            oracle.c_step(mu[k])
            k += 1
        if 2 <= t < 8:
            for name, theta in oracle.theta.items():
                assert np.allclose(model.get_parameter(f"{name}.weight").detach().flatten(1), oracle.matrix(name))
                assert np.allclose(method.theta[name].flatten(1), theta)
                assert np.allclose(method.multipliers[name].flatten(1), oracle.multipliers[name])
    assert k == 3 and method.made == 4 and not method.theta
    oracle.c_step(mu[3])
    assert method.ranks == oracle.ranks
    shapes = {name: theta.shape for name, theta in oracle.theta.items()}
    kept = {name: r for name, r in oracle.ranks.items() if r * sum(shapes[name]) < shapes[name][0] * shapes[name][1]}
    assert method.layers() == kept and method.full_layers() == {"0": 9, "2": 8, "4": 12}
    assert 0 < len(kept) < 3  # layers of both kinds, in each case
    with torch.no_grad():
        for name in kept:
            weight = oracle.model.get_parameter(f"{name}.weight")
            weight.copy_(torch.from_numpy(oracle.theta[name]).view_as(weight))
            up, down = (model.get_parameter(f"{name}.{part}.weight").flatten(1) for part in ("up", "down"))
            assert np.allclose(up.T @ up, down @ down.T)
    torch.testing.assert_close(model(batches[0][0]), oracle.model(batches[0][0]))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    method.make_step(Plain(method.loop, batches[9]))
    assert not any(torch.equal(*each) for each in zip(model.parameters(), before, strict=True))
    total = sum(parameter.numel() for parameter in model.parameters())
    assert method.parameters() == (total, total) and total < sum(p.numel() for p in oracle.model.parameters())


def test_positions_are_counted_in_layers_of_every_kind() -> None:
    """Of 2 samples: 10 tokens of attention, both of whose weights are used; 4 positions of what is transposed."""

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
            self.one, self.other = nn.Linear(4, 4), nn.Linear(4, 4)
            self.other.weight = self.one.weight
            self.transposed = nn.ConvTranspose1d(4, 3, 3, stride=2)
            self.unused = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.attention(query=x, key=x, value=x)[0]
            return self.transposed(self.other(self.one(x)).transpose(1, 2)).flatten(1)[:, :1]

    model, batch = Mixed(), (torch.randn(2, 5, 4), torch.randn(2, 1))
    method = attached(model, [batch] * 9, cost="flops", cost_weight=1.0)
    used = {"attention.in_proj": (10, 12, 4), "attention.out_proj": (10, 4, 4), "one": (20, 4, 4), "unused": (0, 4, 4)}
    used["transposed"] = (10, 4, 9)
    dense = sum(p * m * n for p, m, n in used.values())
    assert method._prices == pytest.approx({name: p * (m + n) / dense for name, (p, m, n) in used.items()})


def test_a_run_becomes_small_and_learns(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    settings = {**PHASES, "training.track": 1, "training.ema_decay": 0.5}
    records = list(evaluate(tiny(**settings), seed=1, weights=file))
    assert [bool(record["ranks"]) for record in records] == [False, False, True, True]
    assert records[0]["full_ranks"] == {"stem": 8, "blocks.0": 16, "blocks.1": 16, "head": 4}
    assert records[3]["mse"] < records[2]["mse"] < records[0]["mse"]
    assert all(record["stability"].keys() == records[0]["full_ranks"].keys() for record in records[1:])
    shapes = {"stem": (16, 8), "blocks.0": (16, 16), "blocks.1": (16, 16), "head": (4, 16)}
    ranks = records[-1]["ranks"]
    saved = sum(m * n - ranks[name] * (m + n) for name, (m, n) in shapes.items() if name in ranks)
    assert records[-1]["parameters"] == records[-1]["trainable_parameters"] == records[0]["parameters"] - saved
    kept = load_file(file)
    network = LRNN.load_weights(Network(0.1, True), kept)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in kept.items())
    assert {name: len(kept[f"{name}.down.weight"]) for name in ranks} == ranks


@pytest.mark.parametrize("interrupted", [1, 2, 3])  # reference, compression, fine-tuning
def test_an_interrupted_training_goes_on_to_the_same_numbers(interrupted: int, tmp_path: Path) -> None:
    experiment = tiny(**PHASES, **{"training.ema_decay": 0.5, "training.optimizer": "adamw"})
    records = interrupted_after(interrupted, experiment, tmp_path, 3)
    unbroken = list(evaluate(experiment, seed=3))
    assert [bool(record["ranks"]) for record in unbroken] == [False, False, True, True]
    for key in ("train_loss", "mse", "mark", "ranks", "total_percent"):
        assert [record[key] for record in records] == [record[key] for record in unbroken]


def test_steps_in_float16_over_several_batches_from_the_start() -> None:
    changes = {"training.precision": "float16", "training.accumulation_steps": 2, "training.clip_grad_norm": 1.0}
    records = list(evaluate(tiny(**{**PHASES, **changes, "lrnn.delay": 0, "training.optimizer": "sgd"}), seed=1))
    assert [bool(record["ranks"]) for record in records] == [record["step"] >= 8 for record in records]
    assert records[-1]["train_loss"] < records[0]["train_loss"]


def test_the_least_run_and_one_too_short() -> None:
    """A run of a single L step; the change-over is known before."""
    model, batches = convolutions()
    method = attached(model, batches[:1], delay=0, compression=0.1, cost_weight=9.0)
    method.make_step(Plain(method.loop, batches[0]))
    assert method.ranks == dict.fromkeys("024", 1) and method.made == 2
    assert method.settings.change_over(1) == 1 and LRNN.Settings().change_over(300) == 200
    with pytest.raises(ValueError, match=r"^lrnn: delay and compression take 9 of 8 steps; make one shorter$"):
        attached(convolutions()[0], batches[:8], delay=3, compression=6)


def test_its_settings_are_searched() -> None:
    experiment = load("vit_digits", ["method=lrnn", "search.lrnn.cost_weight={float: [0.03, 3.0], log: true}"])
    assert experiment.trial({"lrnn.cost_weight": 0.1}).value("lrnn.cost_weight") == 0.1
