"""What methods of two factors share: networks, optimizers and averages with layers that became two."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from oialr_hpo.methods import Loop
from oialr_hpo.methods._factors import Factors
from oialr_hpo.oialr import load_low_rank


class Mixed(nn.Module):
    """A layer of every kind, one of them tied, and a recurrent one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3, stride=2, padding=1)
        self.transposed = nn.ConvTranspose1d(4, 3, 3)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.one, self.other = nn.Linear(6, 6), nn.Linear(6, 6)
        self.other.weight = self.one.weight
        self.recurrent = nn.GRU(6, 5, batch_first=True)
        self.head = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).flatten(2).transpose(1, 2)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        x = self.recurrent(self.other(torch.tanh(self.one(x))))[0]
        return self.transposed(self.head(x).transpose(1, 2))


def cut(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    u, s, vt = torch.linalg.svd(weight.detach().flatten(1), full_matrices=False)
    return u[:, :rank] * s[:rank], vt[:rank]


def optimizer_of(network: Mixed) -> torch.optim.Optimizer:
    """The tied layers are in a group of their own."""
    tied = list(network.one.parameters())
    others = [each for each in network.parameters() if all(each is not other for other in tied)]
    return torch.optim.AdamW([{"params": tied, "weight_decay": 0.5}, {"params": others}], lr=1e-2)


def factors_of(network: nn.Module, optimizer: torch.optim.Optimizer, *averages: nn.Module) -> Factors:
    return Factors("mine", Loop(network, optimizer, lambda *_: torch.zeros(()), 10, 5, [*averages], iter))


def test_layers_of_every_kind_become_two() -> None:
    torch.manual_seed(0)
    network, x = Mixed().double(), torch.randn(3, 2, 6, 6).double()
    dense = copy.deepcopy(network)
    optimizer = optimizer_of(network)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    for _ in range(2):
        network(x).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update_parameters(network)
    dense.load_state_dict(network.state_dict())
    factors = factors_of(network, optimizer, average)
    assert factors.full_ranks == {
        "conv": 6, "transposed": 4, "attention.in_proj": 6, "attention.out_proj": 6, "one": 6, "head": 4
    }  # fmt: skip
    assert factors.ranks == {}
    ranks = {"conv": 3, "transposed": 4, "attention.in_proj": 5, "one": 2}
    products = {name: cut(factors.weights[name], rank) for name, rank in ranks.items()}
    factors.replace(products)
    assert factors.ranks == ranks
    with torch.no_grad():
        dense.attention.in_proj_weight.copy_(torch.matmul(*products["attention.in_proj"]))
        for name in ("conv", "transposed", "one"):
            weight = dense.get_submodule(name).get_parameter("weight")
            weight.copy_(torch.matmul(*products[name]).reshape(weight.shape))
    torch.testing.assert_close(network(x), dense(x))
    assert torch.equal(average(x), network(x))
    assert network.one.down.weight is network.other.down.weight and network.one.bias is not network.other.bias

    decayed, others = ({id(parameter) for parameter in group["params"]} for group in optimizer.param_groups)
    assert decayed == {id(each) for each in network.one.parameters()}
    assert decayed | others == {id(each) for each in network.parameters()}
    assert network.one.up.weight not in optimizer.state and network.one.bias in optimizer.state
    network(x).square().sum().backward()
    optimizer.step()
    average.update_parameters(network)
    assert network.conv.down.weight in optimizer.state

    again = Mixed().double()
    resumed = optimizer_of(again)
    averages = AveragedModel(again, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    factors_of(again, resumed, averages).take_ranks(ranks)
    again.load_state_dict(network.state_dict())
    resumed.load_state_dict(optimizer.state_dict())
    averages.load_state_dict(average.state_dict())
    assert torch.equal(again(x), network(x)) and torch.equal(averages(x), average(x))
    assert torch.equal(load_low_rank(Mixed().double(), average.module.state_dict())(x), average(x))


def test_a_network_without_layers_for_it_is_refused() -> None:
    network = nn.Sequential(nn.GRU(3, 2))
    with pytest.raises(ValueError, match="^mine: Sequential has no layer to make two of$"):
        factors_of(network, torch.optim.SGD(network.parameters()))


def test_an_optimizer_that_cannot_follow_is_refused_in_the_method_s_name() -> None:
    network = nn.Sequential(nn.Linear(3, 2))
    with pytest.raises(TypeError, match="^mine: the optimizer LBFGS keeps .*; use another, such as"):
        factors_of(network, torch.optim.LBFGS(network.parameters()))
