"""OIALR against a plain oracle which rebuilds W = U Sigma V^T at every forward."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from oialr_hpo.oialr import OIALR


class Oracle:
    """Algorithms 1 and 2 in a few lines: weights rebuilt from three matrices, AdamW or SGD by hand."""

    def __init__(self, model: nn.Module, schedule: dict, optimizer: str) -> None:
        self.model, self.schedule, self.adam = model, schedule, optimizer == "adamw"
        self.names = [name for name, p in model.named_parameters() if p.dim() >= 2]
        self.dense = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
        self.factors: dict[str, list[Tensor]] = {}
        self.state = {name: [torch.zeros_like(p), torch.zeros_like(p)] for name, p in self.dense.items()}
        self.t = self.u = 0
        self.counted = dict.fromkeys(self.dense, 0)  # steps in the moments' averages
        if schedule["delay"] == 0:
            self.convert()

    def trained(self, name: str) -> Tensor:
        return self.factors[name][1] if name in self.factors else self.dense[name]

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        weights = {name: (f[0] @ f[1] @ f[2]).view_as(self.dense[name]) for name, f in self.factors.items()}
        return F.cross_entropy(functional_call(self.model, {**self.dense, **weights}, (x,)), y)

    def step(self, x: Tensor, y: Tensor) -> tuple[float, dict[str, Tensor]]:
        loss = self.loss(x, y)
        parameters = [self.trained(name) for name in self.dense]
        grads = dict(zip(self.dense, torch.autograd.grad(loss, parameters), strict=True))
        self.t += 1
        with torch.no_grad():
            for name, p in zip(self.dense, parameters, strict=True):
                self.counted[name] += 1
                self.descend(p, grads[name], self.state[name], self.counted[name])
        if self.t == self.schedule["delay"]:
            self.convert()
        elif self.t > self.schedule["delay"] and self.t % self.schedule["frequency"] == 0:
            self.update()
        return loss.item(), grads

    def descend(self, p: Tensor, grad: Tensor, state: list[Tensor], t: int) -> None:
        if not self.adam:
            state[0].mul_(0.9).add_(grad)
            p -= 0.2 * state[0]
            return
        p -= 1e-2 * 0.05 * p
        state[0].mul_(0.9).add_(0.1 * grad)
        state[1].mul_(0.999).add_(0.001 * grad**2)
        p -= 1e-2 * (state[0] / (1 - 0.9**t)) / ((state[1] / (1 - 0.999**t)).sqrt() + 1e-8)

    @torch.no_grad()
    def convert(self) -> None:
        for name in self.names:
            matrix = self.dense[name].flatten(1)
            u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
            self.factors[name] = [u, torch.diag(s).requires_grad_(), vt]
            self.move_state(name, u, vt.t())

    @torch.no_grad()
    def update(self) -> None:
        self.u += 1
        layers = len(self.names)
        touched = max(1, min(layers, math.floor(layers * self.schedule["step_fraction"] * self.u + 1e-9)))
        for name in self.names[layers - touched :]:
            u, sigma, vt = self.factors[name]
            left, s, right = torch.linalg.svd(sigma)
            r = int((s >= self.schedule["cutoff"] * s.max()).sum())
            self.factors[name] = [u @ left[:, :r], torch.diag(s[:r]).requires_grad_(), right[:r] @ vt]
            self.move_state(name, left[:, :r], right[:r].t())

    def move_state(self, name: str, left: Tensor, right: Tensor) -> None:
        first, second = (value.flatten(1) for value in self.state[name])
        first, second = left.t() @ first @ right, (left**2).t() @ second @ right**2
        if self.adam and self.t:  # the moments of all steps become those of one
            first *= 0.1 / (1 - 0.9 ** self.counted[name])
            second *= 0.001 / (1 - 0.999 ** self.counted[name])
            self.counted[name] = 1
        self.state[name] = [first, second]


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 40), nn.Tanh(), nn.Linear(40, 9), nn.Tanh(), nn.Linear(9, 5))


def convnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.GELU(), nn.Conv2d(8, 12, 3, stride=2, dilation=2, bias=False),
        nn.Flatten(2), nn.Conv1d(12, 6, 5, padding=2), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 5),
    )  # fmt: skip


@pytest.mark.parametrize("optimizer_name", ["adamw", "sgd"])
@pytest.mark.parametrize(
    "build, shape, schedule",
    [
        (mlp, (12,), {"delay": 0, "frequency": 3, "cutoff": 0.4, "step_fraction": 0.1}),
        (mlp, (12,), {"delay": 5, "frequency": 4, "cutoff": 0.4, "step_fraction": 0.34}),
        (convnet, (3, 9, 9), {"delay": 4, "frequency": 3, "cutoff": 0.4, "step_fraction": 0.5}),
    ],
)
def test_same_losses_and_gradients_as_rebuilding_w(build, shape, schedule, optimizer_name):
    torch.manual_seed(0)
    model = build().double()
    oracle = Oracle(copy.deepcopy(model), schedule, optimizer_name)
    optimizer = (
        torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.05)
        if optimizer_name == "adamw"
        else torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    )
    oialr = OIALR(model, optimizer, **schedule)
    rank_history = []
    for _ in range(40):
        x, y = torch.randn(16, *shape, dtype=torch.float64), torch.randint(5, (16,))
        expected_loss, expected_grads = oracle.step(x, y)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        for name, grad in expected_grads.items():
            module = model.get_submodule(name.rpartition(".")[0])
            is_factorised = name.endswith("weight") and oialr.ranks
            parameter = module.sigma if is_factorised else model.get_parameter(name)
            torch.testing.assert_close(parameter.grad, grad, rtol=1e-6, atol=1e-9)
        optimizer.step()
        oialr.step()
        assert loss.item() == pytest.approx(expected_loss, rel=1e-9)
        assert list(oialr.ranks.values()) == [len(f[1]) for f in oracle.factors.values()]
        rank_history.append(list(oialr.ranks.values()))
    cuts = sum(a != b for a, b in zip(rank_history, rank_history[1:], strict=False) if a)
    assert cuts >= 2
