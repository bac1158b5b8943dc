"""When layers change, how far, what is reported, and what stays the same across a save."""

import copy

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from oialr_hpo.oialr import OIALR, load_low_rank, plan
from oialr_hpo.oialr.decomposition import number_kept


def mlp(depth: int = 3, width: int = 12) -> nn.Sequential:
    return nn.Sequential(*[layer for _ in range(depth) for layer in (nn.Linear(width, width), nn.Tanh())])


def train(model, optimizer, oialr, steps: int, seed: int = 0, scheduler=None) -> list[float]:
    generator, losses = torch.Generator().manual_seed(seed), []
    for _ in range(steps):
        x = torch.randn(8, 12, generator=generator)
        loss = (model(x) - x.roll(1, 1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        oialr.step()
        if scheduler:
            scheduler.step()
        losses.append(loss.item())
    return losses


@settings(max_examples=40, deadline=None)
@given(
    depth=st.integers(1, 7),
    delay=st.integers(0, 6),
    frequency=st.integers(1, 5),
    fraction=st.floats(0.01, 1),
    cutoff=st.floats(0, 0.9),
    multiple=st.sampled_from([1, 4]),
)
def test_algorithm_2(depth, delay, frequency, fraction, cutoff, multiple):
    """Updates reach max(1, L alpha u) layers from the back, ranks only shrink, W changes only by what is dropped."""
    torch.manual_seed(0)
    model = mlp(depth, 6)
    oialr = OIALR(
        model, delay=delay, frequency=frequency, cutoff=cutoff, step_fraction=fraction, rank_multiple=multiple
    )
    layers = [module for module in model if not isinstance(module, nn.Tanh)]
    assert bool(oialr.ranks) == (delay == 0)
    updates = 0
    for t in range(1, 20):
        before = [module.weight.detach().clone() for module in model if not isinstance(module, nn.Tanh)]
        ranks, sigmas = oialr.ranks, [getattr(m, "sigma", None) for m in model if not isinstance(m, nn.Tanh)]
        oialr.step()
        layers = [module for module in model if not isinstance(module, nn.Tanh)]
        if t > delay and t % frequency == 0:
            updates += 1
            reach = max(1, min(depth, int(depth * fraction * updates + 1e-9)))
            for i, (layer, sigma) in enumerate(zip(layers, sigmas, strict=True)):
                assert (layer.sigma is not sigma) == (i >= depth - reach)
        for name, layer, dense in zip(oialr.ranks, layers, before, strict=False):
            assert oialr.ranks[name] <= ranks.get(name, 6)
            assert layer.rank == oialr.ranks[name]
            assert layer.rank % multiple == 0 or layer.rank == ranks.get(name, 6)
            singular = torch.linalg.svdvals(dense)
            dropped = torch.linalg.matrix_norm(layer.weight - dense, 2)
            tail = singular[layer.rank].item() if layer.rank < 6 else 0.0
            assert dropped <= tail + 1e-4
            assert tail <= cutoff * singular[0] + 1e-4
    if delay > 19:
        assert oialr.total_percent == 100


def test_before_the_delay_nothing_happens():
    model = mlp()
    weights = [layer.weight for layer in model[::2]]
    oialr = OIALR(model, delay=100, frequency=1)
    for _ in range(99):
        oialr.step()
    assert oialr.ranks == {} and oialr.total_percent == oialr.trainable_percent == 100
    assert all(layer.weight is weight for layer, weight in zip(model[::2], weights, strict=True))


def test_percentages_of_the_mini_vit_are_those_of_the_paper():
    model = timm.create_model(
        "vit_base_patch16_224", img_size=32, patch_size=8, embed_dim=192, depth=6, num_heads=6, num_classes=10,
        qkv_bias=False,
    )  # fmt: skip
    oialr = OIALR(model, delay=0, frequency=1, include=["blocks.*"])
    assert oialr.total_percent == pytest.approx(166.5, abs=1.5)
    assert oialr.trainable_percent == pytest.approx(33.7, abs=1)


def test_guards_bound_a_cut():
    def rank_after_update(**guards):
        model = nn.Sequential(nn.Linear(40, 40))
        with torch.no_grad():
            model[0].weight.copy_(torch.diag(torch.cat([torch.ones(1), torch.full((39,), 0.01)])))
        oialr = OIALR(model, delay=0, frequency=1, cutoff=0.5, **guards)
        oialr.step()
        return oialr.ranks["0"]

    assert rank_after_update() == 1
    assert rank_after_update(max_cut=0.5) == 20
    assert rank_after_update(min_rank=0.1) == 4
    assert rank_after_update(rank_multiple=16) == 16


def test_the_first_cut_may_come_with_the_change_over():
    def network():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(20, 30), nn.Linear(30, 10))

    whole, cut = (OIALR(network(), delay=0, frequency=9, first_cutoff=cutoff) for cutoff in (0.0, 0.5))
    assert [*whole.ranks.values()] == [20, 10]
    values = [torch.linalg.svdvals(layer.weight) for layer in network()]
    assert [*cut.ranks.values()] == [int((each >= 0.5 * each[0]).sum()) for each in values]
    x = torch.randn(8, 20)
    torch.testing.assert_close(whole.model(x), network()(x))
    assert not torch.allclose(cut.model(x), whole.model(x))
    again = OIALR(network(), delay=0, frequency=9, first_cutoff=0.5)
    again.load_state_dict(cut.state_dict())
    again.model.load_state_dict(cut.model.state_dict())
    torch.testing.assert_close(again.model(x), cut.model(x))


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=8), st.floats(0, 1), st.floats(0.01, 1))
def test_as_many_singular_values_are_kept_as_hold_the_energy(drawn: list[float], cutoff: float, energy: float) -> None:
    values = torch.tensor(sorted(drawn, reverse=True), dtype=torch.float64)
    kept, squares = number_kept(values, cutoff, energy), values.square()
    assert 1 <= kept <= number_kept(values, cutoff, 1.0) <= len(values)
    assert kept == number_kept(values, cutoff, 1.0) or squares[:kept].sum() >= energy * squares.sum() * (1 - 1e-12)
    assert kept == 1 or squares[: kept - 1].sum() < energy * squares.sum()


def test_selection_and_its_report():
    model = nn.ModuleDict(
        {
            "stem": nn.Conv2d(3, 8, 3, padding=1),
            "depthwise": nn.Conv2d(8, 8, 3, groups=8),
            "norm": nn.BatchNorm2d(8),
            "tokens": nn.Embedding(20, 8),
            "decoder": nn.Linear(8, 20),
            "twin": nn.Linear(8, 20),
            "frozen": nn.Linear(8, 8).requires_grad_(False),
            "attention": nn.MultiheadAttention(8, 2),
            "small": nn.Linear(8, 2),
            "last": nn.Linear(8, 8),
            "head": nn.Linear(8, 8),
        }
    )
    model["decoder"].weight = model["tokens"].weight
    model["twin"].weight = model["head"].weight = nn.Parameter(torch.randn(8, 8))
    layers = plan(model, keep_first=True, keep_last=True, min_size=3, exclude=["*.out_proj"])
    reasons = {layer.name: layer.reason for layer in layers}
    assert reasons == {
        "stem": "first layer kept",
        "depthwise": "8 groups",
        "tokens": "Embedding is not supported",
        "twin": "last layer kept",
        "frozen": "frozen",
        "attention.in_proj": "",
        "attention.out_proj": "excluded",
        "small": "smaller than 3",
        "last": "",
    }
    assert "twin, head" in str(layers) and "8 groups" in str(layers)
    with pytest.raises(ValueError, match="no layer of ModuleDict matches 'hed'"):
        plan(model, include=["hed"])


def test_keep_last_is_the_networks_head():
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=32, depth=1, num_heads=2)
    names = list(OIALR(model, delay=0, frequency=1, keep_first=True, keep_last=True, exclude=["*.fc2"]).ranks)
    assert names == ["blocks.0.attn.qkv", "blocks.0.attn.proj", "blocks.0.mlp.fc1"]


def test_tied_weights_stay_tied():
    model = mlp(3)
    model[4].weight = model[0].weight
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    oialr = OIALR(model, optimizer, delay=2, frequency=2, cutoff=0.3, step_fraction=1)
    train(model, optimizer, oialr, 6)
    assert list(oialr.ranks) == ["0", "2"]
    assert model[0].sigma is model[4].sigma and model[0].u is model[4].u
    assert model[0].rank < 12
    x = torch.randn(3, 12)
    y = model(x)
    torch.testing.assert_close(oialr.merge()(x), y, rtol=1e-4, atol=1e-5)
    assert next(model[0].parameters()) is next(model[4].parameters())


@pytest.mark.parametrize("delay", [0, 3])
@pytest.mark.parametrize("cut", [2, 5, 9])
def test_resumed_in_the_middle_it_takes_the_same_course(tmp_path, delay, cut):
    def start():
        torch.manual_seed(1)
        model = mlp()
        optimizer = torch.optim.AdamW(model.parameters(), 3e-2)
        oialr = OIALR(model, optimizer, delay=delay, frequency=2, cutoff=0.4, step_fraction=0.5, decay_sigma=False)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12)
        return model, optimizer, oialr, scheduler

    *whole, scheduler = start()
    expected = train(*whole, 12, scheduler=scheduler)
    *parts, scheduler = start()
    train(*parts, cut, scheduler=scheduler)
    torch.save([part.state_dict() for part in (*parts, scheduler)], tmp_path / "run.pt")

    model, optimizer, oialr, scheduler = start()
    states = torch.load(tmp_path / "run.pt", weights_only=True)
    oialr.load_state_dict(states[2])
    for part, state in zip((model, optimizer, scheduler), (states[0], states[1], states[3]), strict=True):
        part.load_state_dict(state)
    generator = torch.Generator().manual_seed(0)
    for _ in range(cut):
        torch.randn(8, 12, generator=generator)
    losses = []
    for _ in range(12 - cut):
        x = torch.randn(8, 12, generator=generator)
        loss = (model(x) - x.roll(1, 1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(), oialr.step(), scheduler.step()
        losses.append(loss.item())
    assert losses == expected[cut:]
    assert oialr.ranks == whole[2].ranks and min(oialr.ranks.values()) < 12


def test_states_of_other_layers_are_refused():
    saved = OIALR(mlp(), delay=0, frequency=1).state_dict()
    with pytest.raises(ValueError, match="other low-rank layers"):
        OIALR(mlp(), delay=0, frequency=1, keep_last=True).load_state_dict(saved)
    with pytest.raises(ValueError, match="dense network"):
        OIALR(mlp(), delay=0, frequency=1).load_state_dict({**saved, "ranks": {}})


@pytest.mark.parametrize("merged", [False, True])
def test_weights_load_into_a_fresh_dense_network_through_safetensors(tmp_path, merged):
    def build():
        return nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.Flatten(2), nn.Conv1d(16, 16, 1),
            nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), nn.Linear(16, 16),
        )  # fmt: skip

    class Net(nn.Sequential):
        def forward(self, x):
            tokens = self[2](self[1](self[0](x))).transpose(1, 2)
            return self[4](self[3](tokens))

    model = Net(*build()).eval()
    oialr = OIALR(model, delay=0, frequency=1, cutoff=0.6, step_fraction=1)
    oialr.step()
    if merged:
        oialr.merge()
    x = torch.randn(2, 3, 4, 4)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    loaded = load_low_rank(Net(*build()), load_file(tmp_path / "model.safetensors")).eval()
    assert torch.equal(loaded(x), model(x))


def test_non_finite_weights_name_their_layer():
    model = mlp()
    model[2].weight.data[0, 0] = float("nan")
    oialr = OIALR(model, delay=1, frequency=1)
    with pytest.raises(FloatingPointError, match="layer '2': .*NaN or infinity"):
        oialr.step()


def test_an_svd_that_does_not_converge_falls_back_and_says_so(monkeypatch):
    svd = torch.linalg.svd

    def only_double(matrix, **kwargs):
        if matrix.dtype == torch.float32:
            raise torch.linalg.LinAlgError("did not converge")
        return svd(matrix, **kwargs)

    monkeypatch.setattr(torch.linalg, "svd", only_double)
    model = mlp(1)
    x = torch.randn(4, 12)
    y = model(x)
    with pytest.warns(UserWarning, match="layer '0': SVD did not converge"):
        OIALR(model, delay=0, frequency=1)
    torch.testing.assert_close(model(x), y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "argument",
    [
        {"delay": -1}, {"delay": 1.5}, {"frequency": 0}, {"cutoff": 1.1}, {"cutoff": float("nan")},
        {"step_fraction": 0}, {"max_cut": 0}, {"min_rank": -0.1}, {"rank_multiple": 0},
        {"energy": 0}, {"first_cutoff": 2},
    ],
)  # fmt: skip
def test_arguments_out_of_range(argument):
    (name,) = argument
    with pytest.raises(ValueError, match=f"OIALR: {name}="):
        OIALR(mlp(), **{"delay": 0, "frequency": 1, **argument})


def test_fractions_of_a_run_are_steps_as_in_an_experiment_file():
    from oialr_hpo.methods.oialr import OIALR as Method

    by_steps, by_fractions = OIALR(mlp(), delay=50, frequency=5), OIALR.for_run(mlp(), None, 150, cutoff=0.2)
    assert (by_fractions.delay, by_fractions.frequency, by_fractions.cutoff) == (50, 5, 0.2)
    assert (by_steps.delay, by_steps.frequency) == (50, 5)
    rare = OIALR.for_run(mlp(), None, 10, delay=2, frequency=0.01)
    assert (rare.delay, rare.frequency) == (2, 1)
    defaults, fields = OIALR.for_run.__kwdefaults__, Method.Settings.model_fields
    assert defaults == {name: fields[name].default for name in defaults}


@pytest.mark.parametrize("argument", [{"delay": 1.5}, {"frequency": -0.1}, {"total_steps": 0}, {"total_steps": 2.5}])
def test_fractions_out_of_range(argument):
    (name,) = argument
    with pytest.raises(ValueError, match=f"OIALR: {name}="):
        OIALR.for_run(mlp(), None, **{"total_steps": 10, **argument})


def test_networks_that_cannot_be_converted():
    with pytest.raises(ValueError, match="no layer to convert"):
        OIALR(nn.Sequential(nn.LayerNorm(3)), delay=0, frequency=1)
    with pytest.raises(ValueError, match="wrap it in nn.Sequential"):
        OIALR(nn.Linear(3, 3), delay=0, frequency=1)
    model = mlp()
    oialr = OIALR(model, delay=0, frequency=1)
    with pytest.raises(ValueError, match="low-rank already"):
        OIALR(copy.deepcopy(model), delay=0, frequency=1)
    oialr.merge()
    with pytest.raises(RuntimeError, match=r"after merge\(\)"):
        oialr.step()


def test_a_real_network_learns():
    torch.manual_seed(0)
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    oialr = OIALR(model, optimizer, delay=100, frequency=20, cutoff=0.2, step_fraction=0.5)
    losses = train(model, optimizer, oialr, 300)
    assert losses[-1] < 0.9 * losses[99]
    assert F.mse_loss(model(torch.zeros(1, 12)), torch.zeros(1, 12)) < 0.5
