"""Stability and similarity against their definitions, dense and low-rank, and the tracker over a training."""

import io

import pytest
import torch
import torchvision.models as tv
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from oialr_hpo.oialr import OIALR
from oialr_hpo.oialr.stability import Tracker


def polar(w: Tensor) -> Tensor:
    u, _, vt = torch.linalg.svd(w.double(), full_matrices=False)
    return u @ vt


def triangle(w: Tensor) -> Tensor:
    """R of Gram and Schmidt's orthogonalisation, column by column."""
    w = w.double() if w.shape[0] >= w.shape[1] else w.double().t()
    q, r = torch.zeros_like(w), torch.zeros(w.shape[1], w.shape[1], dtype=torch.float64)
    for j in range(w.shape[1]):
        r[:, j] = q.t() @ w[:, j]
        rest = w[:, j] - q @ r[:, j]
        r[j, j] = rest.norm()
        q[:, j] = rest / r[j, j]
    return r


def network(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*layers)


@settings(max_examples=40, deadline=None)
@given(m=st.integers(2, 12), n=st.integers(2, 12), turn=st.floats(0, 1), seed=st.integers(0, 99))
def test_equations_4_and_5(m, n, turn, seed):
    torch.manual_seed(seed)
    model = network(nn.Linear(n, m))
    before = model[0].weight.detach().clone()
    tracker = Tracker(model, lag=1)
    with torch.no_grad():
        model[0].weight.add_(turn * torch.randn(m, n))
    after = model[0].weight.detach()
    values = tracker.observe()
    assert values["stability"]["0"] == pytest.approx((polar(before) * polar(after)).sum().item() / min(m, n), abs=1e-3)
    distance = (triangle(before) - triangle(after)).norm().item() / (m * n) ** 0.5
    assert values["similarity"]["0"] == pytest.approx(1 - distance, abs=1e-3)


def test_bases_and_mixing_are_told_apart():
    model = network(nn.Linear(8, 20), nn.Linear(20, 8))
    tracker = Tracker(model, lag=1)
    unchanged = tracker.observe()
    assert unchanged["similarity"] == {"0": 1, "1": 1}
    assert unchanged["stability"] == pytest.approx({"0": 1, "1": 1}, abs=1e-4)
    with torch.no_grad():
        model[0].weight.mul_(2)  # the same bases, mixed twice as strongly
        model[1].weight.copy_(model[1].weight @ torch.linalg.qr(torch.randn(20, 20))[0])  # the same R, turned
    values = tracker.observe()
    assert values["stability"]["0"] == pytest.approx(1, abs=1e-4) and values["similarity"]["0"] < 0.9
    assert values["stability"]["1"] < 0.7 and values["similarity"]["1"] == pytest.approx(1, abs=1e-6)


def test_the_lag_counts_observations():
    model = network(nn.Linear(5, 5))
    tracker = Tracker(model, lag=3)
    assert tracker.observe() == tracker.observe() == {}
    with torch.no_grad():
        model[0].weight.mul_(3)
    assert tracker.observe()["similarity"]["0"] < 1  # against the construction
    model[0].weight.data.div_(3)
    assert tracker.observe()["similarity"]["0"] == pytest.approx(1, abs=1e-6)
    assert tracker.seconds > 0
    with pytest.raises(ValueError, match="lag=0"):
        Tracker(model, lag=0)


def test_conversion_changes_nothing_and_a_cut_is_a_dip():
    model = network(nn.Conv2d(3, 16, 3), nn.Flatten(), nn.Linear(64, 12), nn.MultiheadAttention(12, 2))
    tracker = Tracker(model, lag=2)
    oialr = OIALR(model, delay=1, frequency=1, cutoff=0.5, step_fraction=1)
    assert tracker.layers == [layer.name for layer in oialr.report]
    assert tracker.layers == ["0", "2", "3.in_proj", "3.out_proj"]
    oialr.step()
    tracker.observe()
    values = tracker.observe()
    assert list(values["stability"].values()) == pytest.approx([1] * 4, abs=1e-3)
    assert list(values["similarity"].values()) == pytest.approx([1] * 4, abs=1e-4)
    full = {"0": 16, "2": 12, "3.in_proj": 12, "3.out_proj": 12}
    oialr.step()
    dip = tracker.observe()["stability"]
    for name, rank in oialr.ranks.items():
        assert rank < full[name] and dip[name] == pytest.approx(rank / full[name], abs=1e-3)
    tracker.observe()
    assert list(tracker.observe()["stability"].values()) == pytest.approx([1] * 4, abs=1e-3)


def test_a_low_rank_layer_and_the_dense_one_with_its_weight_agree():
    low_rank = network(nn.Linear(10, 24), nn.Linear(24, 10))
    dense = network(nn.Linear(10, 24), nn.Linear(24, 10))
    OIALR(low_rank, delay=0, frequency=1)
    trackers = Tracker(low_rank, ["0", "1"], lag=1), Tracker(dense, lag=1)
    with torch.no_grad():
        for turned, layer in zip(low_rank, dense, strict=True):
            turned.sigma.add_(0.3 * torch.randn_like(turned.sigma))
            layer.weight.copy_(turned.weight)
    first, second = (tracker.observe() for tracker in trackers)
    for measure in ("stability", "similarity"):
        assert first[measure] == pytest.approx(second[measure], abs=1e-3)
        assert all(value < 0.999 for value in first[measure].values())


def test_delay_0_tracks_the_low_rank_network():
    model = tv.VisionTransformer(32, 8, 1, 4, 32, 64, num_classes=7)
    oialr = OIALR(model, delay=0, frequency=1)
    tracker = Tracker(model, oialr.ranks, lag=1)
    assert set(tracker.observe()["stability"]) == set(oialr.ranks)


def test_a_resumed_tracker_sees_the_same(tmp_path):
    model = network(nn.Linear(6, 9))
    tracker = Tracker(model, lag=2)
    tracker.observe()
    model[0].weight.data.add_(torch.randn(9, 6))
    stored = io.BytesIO()
    torch.save(tracker.state_dict(), stored)
    stored.seek(0)
    resumed = Tracker(model, lag=2)
    resumed.load_state_dict(torch.load(stored, weights_only=True))
    assert resumed.observe() == tracker.observe() != {}


def test_missing_rank_zeros_and_broken_weights():
    model = network(nn.Linear(6, 6), nn.Linear(6, 6))
    model[0].weight.data[:, 3:] = 0
    model[1].weight.data.zero_()
    tracker = Tracker(model, lag=1)
    values = tracker.observe()
    assert values["stability"] == pytest.approx({"0": 1, "1": 0}, abs=1e-3)
    model[1].weight.data[0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match="layer '1'"):
        tracker.observe()
