"""RigL against the paper's rules written plainly, in lists of numbers."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from oialr_hpo.experiment import load
from oialr_hpo.methods import Loop
from oialr_hpo.methods.rigl import RigL
from oialr_hpo.training.objective import evaluate
from tests.methods.interruption import interrupted_after
from tests.tiny_task import tiny

INTERRUPTED = {"method": "rigl", "rigl.density": 0.4, "rigl.frequency": 4, "training.ema_decay": 0.5}


class GivenGradients:
    """A step whose gradients are given, in the network's order."""

    def __init__(self, network: nn.Module, optimizer: torch.optim.Optimizer, gradients: list[Tensor]):
        self.network, self.optimizer, self.gradients = network, optimizer, gradients
        self.updated = False

    def backward(self) -> None:
        for parameter, gradient in zip(self.network.parameters(), self.gradients, strict=True):
            parameter.grad = gradient.clone()

    def update(self) -> bool:
        self.updated = True
        self.optimizer.step()
        return True


def attach(network: nn.Module, optimizer: torch.optim.Optimizer, total: int, *averages: nn.Module, **settings) -> RigL:
    loop = Loop(network, optimizer, lambda *_: torch.zeros(()), total, 4, [*averages], iter)
    return RigL(RigL.Settings(**settings), loop)


def small() -> nn.Module:
    """Sums of dimensions 18, 30 and 6; sizes 288, 200 and 8; a depthwise convolution and norms stay dense."""
    return nn.Sequential(
        nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8), nn.Linear(20, 10), nn.Linear(2, 4)
    )


def counts(method: RigL) -> dict[str, int]:
    return {name: int(mask.sum()) for name, mask in method.masks.items()}


def test_densities_are_those_of_erk() -> None:
    """128 of 496 weights: the last layer, of 8, would get more than it has; 120 = 2.5 (18 + 30) for the others."""
    network = small()
    method = attach(network, torch.optim.SGD(network.parameters()), 100, density=128 / 496)
    assert counts(method) == {"0": 45, "3": 75, "4": 8}
    assert method.layers() == {"0": 45 / 288, "3": 75 / 200, "4": 1}
    assert method.full_layers() == {"0": 1, "3": 1, "4": 1}
    others = 8 + 8 * 9 + 8 + 8 + 8 + 10 + 4
    assert method.parameters() == (128 + others, 128 + others)
    assert all(int((network[int(name)].weight != 0).sum()) == number for name, number in counts(method).items())
    assert not torch.equal(method.masks["0"], attach(small(), torch.optim.SGD(network.parameters()), 9).masks["0"])


def test_uniform_densities_leave_the_first_layer_dense() -> None:
    network = small()
    method = attach(network, torch.optim.SGD(network.parameters()), 100, density=0.25, distribution="uniform")
    assert counts(method) == {"3": 50, "4": 2}


class Plain:
    """A layer as lists: SGD with momentum on the active weights (Algorithm 1)."""

    def __init__(self, weight: Tensor, mask: Tensor):
        self.mask = mask.flatten().tolist()
        self.weight = [w * m for w, m in zip(weight.flatten().tolist(), self.mask, strict=True)]
        self.momentum = [0.0] * len(self.weight)

    def train(self, gradient: list[float], lr: float) -> None:
        for i in range(len(self.weight)):
            if self.mask[i]:
                self.momentum[i] = 0.9 * self.momentum[i] + gradient[i]
                self.weight[i] -= lr * self.momentum[i]

    def move(self, gradient: list[float], number: int) -> None:
        active = [i for i in range(len(self.mask)) if self.mask[i]]
        dropped = sorted(active, key=lambda i: (abs(self.weight[i]), -i))[:number]
        free = [i for i in range(len(self.mask)) if i in dropped or not self.mask[i]]
        grown = sorted(free, key=lambda i: (-abs(gradient[i]), i))[:number]
        for i in set(dropped) ^ set(grown):
            self.mask[i] = i in grown
            self.weight[i] = self.momentum[i] = 0.0


def test_steps_are_those_of_the_paper() -> None:
    """ΔT = 3, T_end = 15 of 20 steps, α = 0.8; gradients are whole numbers, so that some are equal."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 5), nn.Conv1d(3, 4, 2)).double()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    start = [layer.weight.detach().clone() for layer in network]
    method = attach(network, optimizer, 20, average, density=0.5, frequency=3, drop_fraction=0.8, end=0.75)
    plain = [Plain(weight, mask) for weight, mask in zip(start, method.masks.values(), strict=True)]
    before, moves = counts(method), []
    for t in range(1, 21):
        gradients = [torch.randint(-4, 5, parameter.shape).double() for parameter in network.parameters()]
        step = GivenGradients(network, optimizer, gradients)
        method.make_step(step)
        average.update_parameters(network)
        moved = t in (3, 6, 9, 12)
        assert step.updated != moved
        for i, layer in enumerate(plain):
            gradient = gradients[2 * i].flatten().tolist()
            if moved:
                number = math.floor(0.8 / 2 * (1 + math.cos(t * math.pi / 15)) * sum(layer.mask))
                moves.append(number)
                layer.move(gradient, number)
            else:
                layer.train(gradient, 0.01)
            assert method.masks[str(i)].flatten().tolist() == layer.mask
            assert network[i].weight.flatten().tolist() == pytest.approx(layer.weight, abs=1e-12)
            momentum = optimizer.state[network[i].weight].get("momentum_buffer", torch.zeros(len(layer.mask)))
            assert momentum.flatten().tolist() == pytest.approx(layer.momentum, abs=1e-12)
            assert not average.module[i].weight[~method.masks[str(i)]].any()
        assert counts(method) == before == {"0": 15, "1": 12}
    assert moves == [10, 8, 7, 6, 4, 3, 1, 0]


def test_the_masks_stay_where_gradients_are_infinite() -> None:
    """As in float16 at times: the update comes with the first finite ones."""
    network = nn.Sequential(nn.Linear(4, 4, bias=False))
    method = attach(network, torch.optim.SGD(network.parameters()), 100, density=0.5, frequency=2)
    steps = [
        GivenGradients(network, method.loop.optimizer, [torch.full((4, 4), value)]) for value in (1.0, math.inf, 1.0)
    ]
    steps[1].update = lambda: False  # type: ignore[method-assign]
    masks = []
    for step in steps:
        method.make_step(step)
        masks.append(method.masks["0"])
    assert torch.equal(masks[0], masks[1]) and method.steps == 2
    assert not torch.equal(masks[1], masks[2])


@pytest.mark.parametrize("optimizer", ["adamw", "lamb", "muon"])
def test_inactive_weights_are_zero_whatever_the_optimizer(optimizer: str, tmp_path: Path) -> None:
    settings = INTERRUPTED | {"training.optimizer": optimizer, "training.clip_grad_norm": 1.0}
    records = list(evaluate(tiny(**settings), seed=0, weights=tmp_path / "weights.safetensors"))
    weights = load_file(tmp_path / "weights.safetensors")
    for name, density in records[-1]["densities"].items():
        weight = weights[f"{name}.weight"]
        assert int((weight != 0).sum()) <= round(density * weight.numel())
    assert records[0]["total_percent"] == records[-1]["trainable_percent"] < 60


@pytest.mark.parametrize("interrupted", [1, 3])
def test_an_interrupted_training_goes_on_to_the_same_numbers(interrupted: int, tmp_path: Path) -> None:
    records = interrupted_after(interrupted, tiny(**INTERRUPTED), tmp_path, 3)
    for one, other in zip(records, evaluate(tiny(**INTERRUPTED), seed=3), strict=True):
        assert all(one[key] == other[key] for key in ("train_loss", "mse", "mark", "densities"))


def test_its_density_is_searched() -> None:
    experiment = load("vit_digits", ["method=rigl", "search.rigl.density={float: [0.05, 0.5]}"])
    assert "rigl.density" in experiment.search and experiment.value("rigl.density") == 0.2
