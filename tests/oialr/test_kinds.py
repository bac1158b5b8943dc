"""Every kind of layer that has a low-rank form: at full rank, after cuts, merged, saved, copied and moved."""

import copy
import pickle
import sys
import types

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from oialr_hpo.oialr import OIALR, load_low_rank, merge, plan
from oialr_hpo.oialr.layers import LowRank


class Conv1D(nn.Module):
    """y = x W + b, as in transformers' GPT-2 (the real one is in tests/integrations)."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf = nf
        self.weight, self.bias = nn.Parameter(torch.randn(nx, nf) / nx**0.5), nn.Parameter(torch.randn(nf))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = torch.addmm(self.bias, x.reshape(-1, x.shape[-1]), self.weight)
        return out.view(*x.shape[:-1], self.nf)


Conv1D.__module__ = "transformers.pytorch_utils"


@pytest.fixture(autouse=True)
def picklable(monkeypatch):
    """`transformers.pytorch_utils.Conv1D` can be found by pickle, whether the package is there or not."""
    module = types.ModuleType("transformers.pytorch_utils")
    module.Conv1D = Conv1D
    monkeypatch.setitem(sys.modules, "transformers", types.ModuleType("transformers"))
    monkeypatch.setitem(sys.modules, "transformers.pytorch_utils", module)


KINDS = {
    "linear": (lambda: nn.Linear(6, 9), (5, 6)),
    "linear of few rows": (lambda: nn.Linear(40, 50), (1, 40)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, padding=1), (2, 4, 9)),
    "conv3d": (lambda: nn.Conv3d(3, 8, (1, 2, 3), stride=(1, 2, 1), padding=(0, 1, 1)), (2, 3, 4, 5, 6)),
    "conv3d circular": (lambda: nn.Conv3d(3, 8, 3, padding="same", padding_mode="circular"), (2, 3, 4, 5, 6)),
    "transposed 1d": (lambda: nn.ConvTranspose1d(6, 4, 3, stride=2, output_padding=1), (2, 6, 7)),
    "transposed 2d": (lambda: nn.ConvTranspose2d(12, 5, (3, 2), stride=2, padding=1, dilation=2), (2, 12, 6, 7)),
    "transposed 2d unbatched": (lambda: nn.ConvTranspose2d(6, 5, 3, bias=False), (6, 6, 7)),
    "transposed 3d": (lambda: nn.ConvTranspose3d(4, 3, 2, stride=2), (2, 4, 3, 4, 2)),
    "Conv1D": (lambda: Conv1D(9, 6), (2, 5, 6)),
    "lstm": (lambda: nn.LSTM(6, 8, num_layers=2, bidirectional=True, batch_first=True), (3, 5, 6)),
    "lstm with projections": (lambda: nn.LSTM(6, 8, proj_size=3), (5, 2, 6)),
    "gru": (lambda: nn.GRU(6, 8, bias=False), (5, 2, 6)),
    "rnn unbatched": (lambda: nn.RNN(6, 8, nonlinearity="relu"), (5, 6)),
    "lstm cell": (lambda: nn.LSTMCell(6, 8), (3, 6)),
    "gru cell": (lambda: nn.GRUCell(6, 8), (3, 6)),
}


def network(name: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    build, shape = KINDS[name]
    return nn.Sequential(build()).double(), torch.randn(shape, dtype=torch.float64)


def output(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Everything that comes out, as one vector."""

    def parts(y):
        return [y.flatten()] if isinstance(y, torch.Tensor) else [part for each in y for part in parts(each)]

    return torch.cat(parts(model(x)))


@pytest.mark.parametrize("name", KINDS)
def test_at_full_rank_outputs_and_gradients_are_the_dense_layers(name):
    dense, x = network(name)
    low_rank = copy.deepcopy(dense)
    oialr = OIALR(low_rank, delay=0, frequency=1)
    x.requires_grad_()
    expected, y = output(dense, x), output(low_rank, x)
    torch.testing.assert_close(y, expected)
    dy = torch.randn_like(y)
    (dx,), (expected_dx,) = torch.autograd.grad(y, x, dy, retain_graph=True), torch.autograd.grad(
        expected, x, dy, retain_graph=True
    )  # fmt: skip
    torch.testing.assert_close(dx, expected_dx)
    y.backward(dy), expected.backward(dy)
    gradients = {layer.name: layer.parameter for layer in oialr.report}
    for layer in oialr.ranks:
        module, dw = low_rank.get_submodule(layer), dense.get_parameter(gradients[layer]).grad
        torch.testing.assert_close(module.sigma.grad, module.u.t() @ dw.flatten(1) @ module.vt.t())
    biases = [key for key, parameter in dense.named_parameters() if parameter.dim() == 1]
    for bias in biases:
        torch.testing.assert_close(low_rank.get_parameter(bias).grad, dense.get_parameter(bias).grad)


@pytest.mark.parametrize("name", KINDS)
def test_cut_merged_saved_copied_and_moved_it_computes_the_same(name):
    model, x = network(name)
    oialr = OIALR(model, delay=0, frequency=1, cutoff=0.95, step_fraction=1.0)
    oialr.step()
    assert any(oialr.ranks[layer.name] < min(layer.shape) for layer in oialr.report if layer.rank)
    y = output(model, x).detach()
    for twin in (
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        load_low_rank(network(name)[0], model.state_dict()),
    ):
        torch.testing.assert_close(output(twin, x), y)
        torch.testing.assert_close(output(twin.float(), x.float()).double(), y, rtol=1e-3, atol=1e-4)
    merged = copy.deepcopy(model)
    merge(merged)
    assert not any(isinstance(module, LowRank) for module in merged.modules())

    torch.testing.assert_close(output(merged, x), y)
    torch.testing.assert_close(output(load_low_rank(network(name)[0], merged.state_dict()), x), y)
    assert all(parameter.requires_grad for parameter in merged.parameters())


@pytest.mark.parametrize("name", ["linear", "conv3d", "transposed 2d", "Conv1D", "lstm", "gru cell"])
def test_it_learns_in_float32_and_under_autocast(name):
    model, x = network(name)
    model, x = model.float(), x.float()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    oialr = OIALR(model, optimizer, delay=2, frequency=3, cutoff=0.2, step_fraction=1.0)
    target, losses = torch.randn_like(output(model, x)), []
    for step in range(24):
        with torch.autocast("cpu", torch.bfloat16, enabled=step % 2 == 0):
            loss = (output(model, x).float() - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(), oialr.step()
        losses.append(loss.item())
    assert min(losses[-4:]) < losses[0]


@pytest.mark.parametrize("name", ["linear of few rows", "conv1d", "conv3d", "transposed 2d", "Conv1D", "lstm cell"])
def test_second_derivatives_are_those_of_the_dense_layer(name):
    dense, x = network(name)
    low_rank = copy.deepcopy(dense)
    OIALR(low_rank, delay=0, frequency=1)
    penalties = []
    for model in (dense, low_rank):
        at = x.clone().requires_grad_()
        (dx,) = torch.autograd.grad(output(model, at).square().sum(), at, create_graph=True)
        (dx.square().sum() + output(model, at).sum()).backward()
        penalties.append(at.grad)
    torch.testing.assert_close(*penalties)
    module = next(module for module in low_rank.modules() if isinstance(module, LowRank))
    dw = max((p.grad for p in dense.parameters() if p.dim() > 1), key=torch.numel)
    if name != "lstm cell":
        torch.testing.assert_close(module.sigma.grad, module.u.t() @ dw.flatten(1) @ module.vt.t())


@pytest.mark.parametrize("rows", [1, 200])
@pytest.mark.parametrize("rank", [2, 9])
def test_the_penalty_of_a_linear_last_layer_reaches_sigma(rows, rank):
    """Where dy is a constant the term is easily lost: sigma.grad was None."""
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Linear(9, 12, bias=False)).double()
    model = copy.deepcopy(dense)
    oialr = OIALR(model, delay=0, frequency=1, max_cut=1.0, cutoff=0.0)
    low_rank = model[0]
    oialr._set_factors("0", low_rank.u[:, :rank], low_rank.sigma[:rank, :rank], low_rank.vt[:rank])
    dense[0].weight.data = model[0].weight.detach()
    x = torch.randn(rows, 9, dtype=torch.float64, requires_grad=True)
    for network in (dense, model):
        (dx,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
        dx.square().sum().backward()
    expected = model[0].u.t() @ dense[0].weight.grad @ model[0].vt.t()
    torch.testing.assert_close(model[0].sigma.grad, expected)
    assert torch.autograd.gradgradcheck(lambda x: model[0](x).square(), x[:2].detach().requires_grad_())


def test_packed_sequences_and_states_pass_through_a_recurrent_layer():
    torch.manual_seed(0)
    dense = nn.ModuleList([nn.LSTM(6, 8)]).double()
    low_rank = copy.deepcopy(dense)
    OIALR(low_rank, delay=0, frequency=1)
    x = torch.randn(5, 3, 6, dtype=torch.float64)
    state = torch.randn(1, 3, 8, dtype=torch.float64), torch.randn(1, 3, 8, dtype=torch.float64)
    low_rank[0].flatten_parameters()
    for arguments in ((x, state), (nn.utils.rnn.pack_padded_sequence(x, [5, 4, 2]), state)):
        (y, h), (expected, expected_h) = low_rank[0](*arguments), dense[0](*arguments)
        torch.testing.assert_close(getattr(y, "data", y), getattr(expected, "data", expected))
        torch.testing.assert_close(h, expected_h)


def test_the_size_of_a_transposed_output_can_be_asked_for():
    model = nn.ModuleList([nn.ConvTranspose2d(16, 16, 3, stride=2)]).double()
    dense = copy.deepcopy(model)
    oialr = OIALR(model, delay=0, frequency=1, cutoff=0.9)
    oialr.step()
    dense[0].weight.data = model[0].weight.detach()
    x = torch.randn(2, 16, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(model[0](x, output_size=[12, 12]), dense[0](x, output_size=[12, 12]))
    oialr.merge()
    torch.testing.assert_close(model[0](x, [12, 12]), dense[0](x, output_size=[12, 12]))


def test_every_matrix_has_a_row_and_those_that_stay_dense_a_reason():
    class Own(nn.Linear):
        def forward(self, x):
            return super().forward(x) * 2

    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.mixing, self.shift = nn.Parameter(torch.randn(4, 4)), nn.Parameter(torch.zeros(4))

    replaced = nn.Linear(4, 4)
    replaced.forward = replaced.forward
    biased = nn.Linear(4, 4)
    nn.utils.parametrize.register_parametrization(biased, "bias", nn.Identity())
    model = nn.ModuleDict(
        {
            "plain": nn.Linear(4, 4),
            "own": Own(4, 4),
            "replaced": replaced,
            "biased": biased,
            "weight_norm": nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 4, 3)),
            "orthogonal": nn.utils.parametrizations.orthogonal(nn.Linear(4, 4)),
            "spectral": nn.utils.spectral_norm(nn.Linear(4, 4)),
            "pruned": prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.5),
            "old_weight_norm": torch.nn.utils.weight_norm(nn.Linear(4, 4)),
            "attention": nn.MultiheadAttention(4, 2, kdim=6, vdim=6, add_bias_kv=True),
            "lstm": nn.LSTM(4, 4),
            "bilinear": nn.Bilinear(4, 4, 4),
            "lazy": nn.LazyLinear(4),
            "bare": Bare(),
            "complex": nn.Linear(4, 4, dtype=torch.complex64),
            "grouped": nn.ConvTranspose2d(4, 4, 3, groups=2),
            "bag": nn.EmbeddingBag(4, 4),
            "norm": nn.LayerNorm((4, 4)),
        }
    )  # fmt: skip
    report = plan(model)
    reasons = {layer.name: layer.reason for layer in report}
    for name, parameter in model.named_parameters():
        if nn.parameter.is_lazy(parameter) or parameter.dim() >= 2:
            assert any(name.startswith(row) for row in reasons), name
    converted = {name for name, reason in reasons.items() if not reason}
    assert converted == {"plain", "lstm.weight_ih_l0", "lstm.weight_hh_l0"}
    assert {"own forward" in reasons["own"], "replaced" in reasons["replaced"], reasons["grouped"] == "2 groups"} == {
        True
    }
    assert "bias" in reasons["biased"] and "lazy" in str(report) and "complex" in str(report)
    assert reasons["bare.mixing"] == "not the weight of a layer"
    for part in ("spectral", "pruned", "old_weight_norm", "weight_norm"):
        assert "computed from" in reasons[part], part
    with pytest.raises(ValueError, match="'lazy.weight' is not initialised: run the network on a batch"):
        OIALR(model, delay=1, frequency=1)


@pytest.mark.parametrize("tied", [False, True])
def test_first_and_last_are_projections(tied):
    model = nn.ModuleDict(
        {
            "tokens": nn.EmbeddingBag(12, 8),
            "norm_in": nn.LayerNorm((2, 8)),
            "first": nn.Linear(8, 8),
            "middle": nn.Linear(8, 8),
            "head": nn.Linear(8, 12, bias=False),
            "norm_out": nn.LayerNorm((2, 8)),
            "positions": nn.Embedding(4, 8),
        }
    )
    if tied:
        model["head"].weight = model["tokens"].weight
    names = list(OIALR(model, delay=0, frequency=1, keep_first=True, keep_last=True).ranks)
    assert names == ["middle"]
