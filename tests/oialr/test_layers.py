"""Low-rank layers against the dense layers they replace: values, gradients, memory, masks, autocast, compile."""

import copy
import pickle
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.parameter import Parameter

from oialr_hpo.oialr import OIALR, layers
from oialr_hpo.oialr.conversion import frozen
from oialr_hpo.oialr.costs import chain_flops, dense_flops
from oialr_hpo.oialr.layers import LowRankConv, LowRankLinear
from oialr_hpo.oialr.pointwise import PointwiseConv1d


def orthonormal(rows: int, columns: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(rows, columns, dtype=torch.float64))[0]


def factors(m: int, n: int, r: int) -> tuple[Parameter, Parameter, Parameter]:
    sigma = Parameter(torch.randn(r, r, dtype=torch.float64))
    return frozen(orthonormal(m, r)), sigma, frozen(orthonormal(n, r).t())


def assert_same_as_dense(low_rank, dense, x):
    """Output, and the gradients of x, Sigma and the bias, for a dense layer with the low-rank layer's weight."""
    with torch.no_grad():
        dense.weight.copy_(low_rank.weight)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, expected = low_rank(a), dense(b)
    torch.testing.assert_close(y, expected)
    dy = torch.randn_like(y)
    inputs = [a, low_rank.sigma] + ([] if low_rank.bias is None else [low_rank.bias])
    dx, dsigma, *dbias = torch.autograd.grad(y, inputs, dy)
    inputs = [b, dense.weight] + ([] if dense.bias is None else [dense.bias])
    expected_dx, dw, *expected_dbias = torch.autograd.grad(expected, inputs, dy)
    torch.testing.assert_close(dx, expected_dx)
    torch.testing.assert_close(dsigma, low_rank.u.t() @ dw.flatten(1) @ low_rank.vt.t())
    torch.testing.assert_close(dbias, expected_dbias)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.data(), st.booleans())
def test_linear(m, n, data, bias):
    r = data.draw(st.integers(1, min(m, n)))
    shape = data.draw(st.lists(st.integers(1, 7), max_size=2))
    dense = nn.Linear(n, m, bias=bias).double()
    assert_same_as_dense(LowRankLinear(dense, *factors(m, n, r)), dense, torch.randn(*shape, n, dtype=torch.float64))


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_convolution(data):
    dims = data.draw(st.sampled_from([1, 2]))
    kind = (nn.Conv1d, nn.Conv2d)[dims - 1]
    c_in, c_out = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 9))
    kernel = tuple(data.draw(st.integers(1, 3)) for _ in range(dims))
    mode = data.draw(st.sampled_from(["zeros", "reflect", "circular", "replicate"]))
    padding = data.draw(st.sampled_from(["same", "valid", 0, 1, 2]))
    stride = 1 if padding == "same" else data.draw(st.integers(1, 3))
    dense = kind(
        c_in, c_out, kernel, stride, padding, data.draw(st.integers(1, 2)),
        bias=data.draw(st.booleans()), padding_mode=mode,
    ).double()  # fmt: skip
    n = dense.weight[0].numel()
    low_rank = LowRankConv(dense, *factors(c_out, n, data.draw(st.integers(1, min(c_out, n)))))
    batch = data.draw(st.sampled_from([(), (1,), (3,)]))
    x = torch.randn(*batch, c_in, *[7 + d for d in range(dims)], dtype=torch.float64)
    if data.draw(st.booleans(), "channels last"):
        x = x.movedim(-1 - dims, -1).contiguous().movedim(-1, -1 - dims)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # even kernels with padding="same" warn of a copy
        assert_same_as_dense(low_rank, dense, x)


@pytest.mark.parametrize("rank", [3, 8])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("case", ["plain", "mask", "padding", "both", "per head", "causal", "cross", "unbatched"])
def test_attention(case, batch_first, rank):
    torch.manual_seed(0)
    dense = nn.Sequential(nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=batch_first)).double().eval()
    nn.init.normal_(dense[0].in_proj_bias)
    low_rank = copy.deepcopy(dense)
    OIALR(low_rank, delay=0, frequency=1)
    x = torch.randn(5, 5, 8, dtype=torch.float64)
    query = key = value = x
    if case == "cross":
        key, value = torch.randn_like(x), torch.randn_like(x)
    if case == "unbatched":
        query = key = value = x[0]
    hidden = torch.rand(5, 5) < 0.3
    hidden.fill_diagonal_(False)
    hidden[:, 0] = False
    arguments = {
        "mask": {"attn_mask": hidden},
        "padding": {"key_padding_mask": hidden},
        "both": {"attn_mask": torch.randn(5, 5, dtype=torch.float64), "key_padding_mask": hidden},
        "per head": {"attn_mask": hidden.expand(10, 5, 5)},
        "causal": {"attn_mask": nn.Transformer.generate_square_subsequent_mask(5).double(), "is_causal": True},
    }.get(case, {})
    for wanted in ({"need_weights": True}, {"need_weights": False}, {"average_attn_weights": False}):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # mixed mask types
            expected = dense[0](query, key, value, **arguments, **wanted)
        y = low_rank[0](query, key, value, **arguments, **wanted)
        torch.testing.assert_close(y, expected)


def test_torchs_transformer_keeps_its_results_in_training_and_on_its_fast_path():
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    dense = nn.TransformerEncoder(layer, 2)
    low_rank = copy.deepcopy(dense)
    OIALR(low_rank, delay=0, frequency=1)
    x, padding = torch.randn(3, 5, 16), torch.zeros(3, 5, dtype=torch.bool)
    padding[1, 3:] = True
    torch.testing.assert_close(low_rank(x), dense(x), rtol=1e-4, atol=1e-5)
    dense.eval(), low_rank.eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nested tensors are a prototype
        for mask in (None, padding):
            y = [model(x, src_key_padding_mask=mask)[0] for model in (low_rank, dense)]
            torch.testing.assert_close(*y, rtol=1e-4, atol=1e-5)


def held_for_backward(module: nn.Module, x: torch.Tensor) -> int:
    """Bytes of the distinct tensors autograd keeps, parameters aside."""
    own = {p.untyped_storage().data_ptr() for p in module.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(x.requires_grad_())
    return sum(kept.values())


@pytest.mark.parametrize(
    "dense, shape",
    [
        (nn.Linear(48, 48), (2, 96, 48)),
        (nn.Linear(48, 192), (2, 96, 48)),
        (nn.Conv2d(16, 16, 3, padding=1), (2, 16, 24, 24)),
        (nn.Conv1d(48, 48, 1), (2, 48, 96)),
    ],
)
def test_at_half_rank_less_is_held_for_backward_than_by_the_dense_layer(dense, shape):
    m, n = dense.weight.flatten(1).shape
    kind = LowRankLinear if isinstance(dense, nn.Linear) else LowRankConv
    low_rank = kind(dense, *factors(m, n, min(m, n) // 2)).float()
    x = torch.randn(shape)
    assert held_for_backward(low_rank, x) < held_for_backward(dense, x)


@pytest.mark.parametrize("kind", [LowRankLinear, LowRankConv])
def test_autocast_casts_the_frozen_bases_once_per_update(kind):
    dense, shape = (nn.Linear(32, 64), (99, 32)) if kind is LowRankLinear else (nn.Conv2d(8, 32, 3), (2, 8, 9, 9))
    m, n = dense.weight.flatten(1).shape
    layer = kind(dense, *factors(m, n, 4)).float()
    dense.weight.data = layer.weight.detach()
    x = torch.randn(shape)
    with torch.autocast("cpu", torch.bfloat16):
        y, expected = layer(x), dense(x)
        first = layer.bases()
        layer(x)
        assert y.dtype == torch.bfloat16
        assert layer.bases()[0] is first[0]
        torch.testing.assert_close(y.float(), expected.float(), rtol=0.05, atol=0.05)
        y.float().sum().backward()
    assert layer.sigma.grad.dtype == torch.float32
    assert layer.bases()[0].dtype == torch.float32
    layer.load_state_dict({**layer.state_dict(), "u": torch.zeros(m, 4)})
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.bases()[0].count_nonzero() == 0


def test_frozen_bases_decide_the_cheaper_path():
    assert chain_flops(4352, 3072, 768, 96) < dense_flops(4352, 3072, 768, 96)
    assert chain_flops(4352, 768, 768, 768) > dense_flops(4352, 768, 768, 768)


def test_the_model_stays_an_ordinary_module():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 5))
    seen = []
    model[2].register_forward_hook(lambda *_: seen.append(1))
    hooked = copy.deepcopy(model)
    hooked[2]._forward_hooks.clear()
    OIALR(model, delay=0, frequency=1)
    x = torch.randn(2, 3, 8, 8)
    y = model(x)
    assert seen == [1]
    OIALR(hooked, delay=0, frequency=1)
    for twin in (copy.deepcopy(hooked), pickle.loads(pickle.dumps(hooked))):
        torch.testing.assert_close(twin(x), y)
        assert {name for name, _ in twin.named_parameters()} == {name for name, _ in model.named_parameters()}
    assert model[2].training and not model.eval()[2].training


def test_compile_and_export():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 48), nn.GELU(), nn.Linear(48, 24))
    oialr = OIALR(model, delay=0, frequency=1, cutoff=0.5, step_fraction=1)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    x = torch.randn(64, 24)
    for _ in range(3):
        torch.testing.assert_close(compiled(x), model(x))
        oialr.step()
    compiled(x).sum().backward()
    assert model[0].sigma.grad is not None
    y = model(x)
    merged = oialr.merge()
    torch._dynamo.reset()  # torch 2.5 cannot export what it has compiled
    exported = torch.export.export(merged, (x,)).module()
    torch.testing.assert_close(exported(x), y, rtol=1e-4, atol=1e-5)


def test_compiled_code_is_made_anew_only_where_a_rank_changed():
    torch.manual_seed(0)
    torch._dynamo.reset()
    compilations = []

    def backend(graph, inputs):
        compilations.append(graph)
        return graph.forward

    model = nn.Sequential(nn.Linear(24, 48), nn.GELU(), nn.Linear(48, 24))
    oialr = OIALR(model, delay=0, frequency=1, cutoff=0.05, step_fraction=1, rank_multiple=8)
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    x, changes, seen = torch.randn(64, 24), 0, None
    for cutoff in (0.05, 0.05, 0.3, 0.35, 0.6, 0.6):
        oialr.cutoff = cutoff
        changes, seen = changes + (oialr.ranks != seen), oialr.ranks
        torch.testing.assert_close(compiled(x), model(x))
        oialr.step()
    assert 1 < changes < 6
    assert len(compilations) == changes


@pytest.mark.parametrize("rank", [2, 6])
@pytest.mark.parametrize("kind", [PointwiseConv1d, nn.Conv2d])
def test_a_pointwise_convolution_of_channels_that_lie_last_is_a_linear_layer(kind, rank):
    torch.manual_seed(0)
    dense = (kind(7, 6, bias=True) if kind is PointwiseConv1d else kind(7, 6, 1)).double()
    sizes = (5,) if kind is PointwiseConv1d else (5, 4)
    x = torch.randn(3, *sizes, 7, dtype=torch.float64).movedim(-1, 1)
    low_rank = LowRankConv(dense, *factors(6, 7, rank))
    assert low_rank(x).movedim(1, -1).is_contiguous()
    assert_same_as_dense(low_rank, dense, x)
    plain = (nn.Conv1d if kind is PointwiseConv1d else kind)(7, 6, 1).double()
    plain.load_state_dict(dense.state_dict())
    torch.testing.assert_close(dense(x), plain(x))


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (3, 1)])
def test_images_keep_their_order_in_memory_forward_and_back(kernel, stride, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(layers, "LARGE", 0)
    dense = nn.Conv2d(7, 6, kernel, stride).double()
    low_rank = LowRankConv(dense, *factors(6, 7 * kernel**2, 2))
    x = torch.randn(3, 7, 5, 4, dtype=torch.float64).to(memory_format=torch.channels_last)
    assert_same_as_dense(low_rank, dense, x)
    y = low_rank(x.requires_grad_())
    (dx,) = torch.autograd.grad(y, x, torch.randn_like(y))
    assert y.is_contiguous(memory_format=torch.channels_last) and dx.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7,), (3, 7), (3, 5, 7), (2, 3, 5, 7)])
def test_what_follows_a_linear_layer_may_work_in_place(shape, bias):
    torch.manual_seed(0)
    dense = nn.Linear(7, 6, bias=bias).double()
    low_rank = LowRankLinear(dense, *factors(6, 7, 2))
    x = torch.randn(shape, dtype=torch.float64)
    (expected,) = torch.autograd.grad(torch.relu(low_rank(x)).sum(), low_rank.sigma)
    (found,) = torch.autograd.grad(low_rank(x).movedim(-1, 0).relu_().sum(), low_rank.sigma)
    torch.testing.assert_close(found, expected)


def test_a_pointwise_convolution_becomes_low_rank_and_merges_like_any_other():
    torch.manual_seed(0)
    model = nn.Sequential(PointwiseConv1d(16, 16))
    x = torch.randn(2, 16, 5)
    expected = model(x)
    oialr = OIALR(model, delay=0, frequency=1)
    assert isinstance(model[0], LowRankConv) and oialr.report[0].rank == 16
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(oialr.merge()(x), expected, rtol=1e-4, atol=1e-5)
