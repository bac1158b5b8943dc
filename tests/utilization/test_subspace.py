"""Gram matrices, subspaces and the error of a projection."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from oialr_hpo.utilization.gram import gram_matrices, rows_per_image
from oialr_hpo.utilization.subspace import Subspace, error, error_bound, output_gram, projected, rank

LAYERS = {
    "linear": (nn.Linear(6, 4, bias=False), (5, 6)),
    "tokens": (nn.Linear(6, 4, bias=False), (5, 3, 6)),
    "conv": (nn.Conv2d(3, 5, 3, padding=1, bias=False), (4, 3, 7, 6)),
    "strided": (nn.Conv2d(3, 5, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), bias=False), (4, 3, 9, 8)),
    "circular": (nn.Conv2d(3, 5, 3, padding="same", padding_mode="circular", bias=False), (4, 3, 7, 6)),
    "conv1d": (nn.Conv1d(3, 5, 3, stride=2, padding=1, dilation=2, bias=False), (4, 3, 9)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_outputs_gram_matrix_follows_from_the_inputs(name: str) -> None:
    layer, shape = LAYERS[name]
    network = nn.Sequential(layer).double()
    data = [torch.randn(shape, dtype=torch.float64) for _ in range(3)]
    with torch.no_grad():
        outputs = [network(x) for x in data]
    channels = -1 if isinstance(layer, nn.Linear) else 1
    y = torch.cat([out.movedim(channels, -1).reshape(-1, layer.weight.shape[0]) for out in outputs])
    gram = gram_matrices(network, {"0": [layer]}, data)["0"]
    torch.testing.assert_close(output_gram(gram, layer.weight.detach().flatten(1)), y.t() @ y)
    assert rows_per_image(network, {"0": [layer]}, data[0]) == {"0": len(y) / 3 / shape[0]}


def test_a_tied_weight_meets_the_inputs_of_all_its_users() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    x = torch.randn(7, 4)
    gram = gram_matrices(nn.Sequential(first, second), {"0": [first, second]}, [x])["0"]
    rows = torch.cat([x, first(x).detach()]).double()
    torch.testing.assert_close(gram, rows.t() @ rows)


def test_hooks_are_gone_after_an_error() -> None:
    layer = nn.Linear(4, 4)
    with pytest.raises(RuntimeError):
        gram_matrices(nn.Sequential(layer), {"0": [layer]}, [torch.randn(2, 4), torch.randn(2, 5)])
    assert not layer._forward_pre_hooks and not layer._forward_hooks


def test_float64_keeps_what_float32_would_lose() -> None:
    q = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64)).Q
    sigma = torch.logspace(0, -6, 8, dtype=torch.float64)
    layer = nn.Linear(8, 8).double()
    gram = gram_matrices(nn.Sequential(layer), {"0": [layer]}, [(q * sigma).t()])["0"]
    torch.testing.assert_close(Subspace.of(gram, "0").energy.sqrt(), sigma, rtol=1e-3, atol=0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 9), st.integers(1, 30), st.data())
def test_the_error_of_a_projection_stays_below_its_bound(seed: int, m: int, d: int, rows: int, data: st.DataObject):
    """Equations 10 and 30, on inputs of any spectrum."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, d, generator=generator, dtype=torch.float64) ** 3
    weight = torch.randn(m, d, generator=generator, dtype=torch.float64)
    k_s, k_t = data.draw(st.integers(1, d)), data.draw(st.integers(1, m))
    gram = x.t() @ x
    inputs, outputs = Subspace.of(gram, ""), Subspace.of(output_gram(gram, weight), "")
    projection = projected(weight, inputs, k_s, outputs, k_t)
    scale = (x @ weight.t()).square().sum() + 1e-12
    actual = (x @ weight.t() - x @ projection.t()).square().sum()
    assert abs(error(gram, weight, projection) - actual) <= 1e-9 * scale
    assert actual <= error_bound(gram, weight, inputs.share(k_s), outputs.share(k_t)) + 1e-9 * scale
    assert torch.linalg.matrix_rank(projection, rtol=1e-9) <= min(k_s, k_t)
    full = projected(weight, inputs, d, outputs, m)
    torch.testing.assert_close(full, weight)


def test_a_rank_counts_the_singular_values_that_hold_the_energy() -> None:
    assert rank(torch.diag(torch.tensor([100.0, 10.0, 0.5]))) == 2  # 0.25 of 10100.25 is left out
    assert rank(torch.diag(torch.tensor([100.0, 10.0, 2.0]))) == 3
    assert rank(torch.eye(5)) == 5 and rank(torch.zeros(3, 4)) == 0


def test_infinite_inputs_name_the_layer() -> None:
    with pytest.raises(FloatingPointError, match="layer 'features.3'"):
        Subspace.of(torch.full((2, 2), torch.inf), "features.3")
