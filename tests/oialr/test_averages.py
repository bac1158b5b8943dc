"""Averages of the weights, kept beside the training, are averages of W whatever the basis."""

import copy
import pickle

import pytest
import torch
from timm.utils import ModelEma, ModelEmaV2, ModelEmaV3
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from oialr_hpo.oialr import OIALR
from oialr_hpo.oialr.layers import LowRank

KEEP = 0.8


class ByHand:
    """A copy that no one knows: handed over as `averages=[copy]`."""

    def __init__(self, model):
        self.module = copy.deepcopy(model).requires_grad_(False)

    @torch.no_grad()
    def update(self, model):
        for ours, theirs in zip(self.module.parameters(), model.parameters(), strict=True):
            ours.data.lerp_(theirs.data, 1 - KEEP)


def swa_ema(model, **options):
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(KEEP), **options)


KINDS = {
    "ModelEma": lambda model: ModelEma(model, decay=KEEP),
    "ModelEmaV2": lambda model: ModelEmaV2(model, decay=KEEP),
    "ModelEmaV3": lambda model: ModelEmaV3(model, decay=KEEP),
    "ModelEmaV3 no foreach": lambda model: ModelEmaV3(model, decay=KEEP, foreach=False, exclude_buffers=True),
    "AveragedModel": swa_ema,
    "AveragedModel buffers": lambda model: swa_ema(model, use_buffers=True),
    "by hand": ByHand,
}


def update(average, model):
    average.update_parameters(model) if isinstance(average, AveragedModel) else average.update(model)


BY_STATE_DICT = {"ModelEma", "ModelEmaV2", "ModelEmaV3"}  # where a tied weight is listed, and updated, twice


def inside(average):
    return average.ema if isinstance(average, ModelEma) else average.module


class Net(nn.Module):
    """Layers of all shapes, tied ones, a normalisation, and an attention whose projections become layers."""

    def __init__(self):
        super().__init__()
        self.up, self.norm, self.down = nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 8)
        self.first, self.tied = nn.Linear(8, 8), nn.Linear(8, 8)
        self.tied.weight = self.first.weight
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.conv = nn.Conv1d(8, 12, 3, padding=1)

    def forward(self, x):
        y = self.tied(self.first(self.down(self.norm(self.up(x)).tanh())))
        y = y + self.attention(y[:, None], y[:, None], y[:, None], need_weights=False)[0][:, 0]
        return self.conv(y[..., None])[..., 0]


LAYERS = {"up", "down", "first", "tied", "attention.in_proj", "attention.out_proj", "conv"}
TIED = {"first", "tied"}


def weights(network):
    """Every converted weight as m x n, from dense and low-rank networks alike."""
    found = {}
    for name in LAYERS:
        parent, _, part = name.rpartition(".")
        owner = network.get_submodule(parent)
        fused = part == "in_proj" and isinstance(owner, nn.MultiheadAttention)
        weight = owner.in_proj_weight if fused else network.get_submodule(name).weight
        found[name] = weight.detach().flatten(1).double()
    return found


def loss_of(network, x):
    return (network(x)[:, :8] - x.roll(1, 1)).square().mean()


def train_step(model, optimizer):
    optimizer.zero_grad()
    loss_of(model, torch.randn(16, 8)).backward()
    optimizer.step()


def projected(reference, model):
    """What of an average lies in the network's bases."""
    modules = dict(model.named_modules())
    for name in reference:
        layer = modules.get(name)
        if isinstance(layer, LowRank):
            u, vt = layer.u.double(), layer.vt.double()
            reference[name] = u @ (u.t() @ reference[name] @ vt.t()) @ vt


@pytest.mark.parametrize("cutoff", [0.0, 0.35])
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_average_is_one_of_w_through_change_over_updates_and_cuts(kind, before, cutoff):
    torch.manual_seed(0)
    model = Net()
    average = KINDS[kind](model)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    oialr = OIALR(
        model, optimizer, delay=3, frequency=2, cutoff=cutoff, step_fraction=1.0,
        averages=[average] if kind == "by hand" else (),
    )  # fmt: skip
    reference = weights(inside(average))
    for t in range(12):
        train_step(model, optimizer)
        for now in ("average", "oialr") if before else ("oialr", "average"):
            if now == "oialr":
                oialr.step()
                projected(reference, model)
                continue
            update(average, model)
            first = t == 0 and isinstance(average, AveragedModel)
            for name, weight in weights(model).items():
                keep = 0 if first else KEEP**2 if name in TIED and kind in BY_STATE_DICT else KEEP
                reference[name] = keep * reference[name] + (1 - keep) * weight
        if before and t == 0:
            continue
        for name, weight in weights(inside(average)).items():
            torch.testing.assert_close(weight, reference[name], rtol=0, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")
    copied = inside(average)
    assert copied.first.sigma is copied.tied.sigma and copied.first.sigma is not model.first.sigma
    assert any(rank < 8 for rank in oialr.ranks.values()) == (cutoff > 0)
    x = torch.randn(64, 8)
    with torch.no_grad():
        assert loss_of(copied.eval(), x) < 2 * loss_of(model.eval(), x) + 0.1
        y = copied(x)
        oialr.merge()
        torch.testing.assert_close(copied(x), y, rtol=1e-3, atol=1e-4)
    update(average, model)


def test_an_average_first_updated_late_or_made_late_follows_too():
    torch.manual_seed(0)
    model = Net()
    early = AveragedModel(model)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    oialr = OIALR(model, optimizer, delay=2, frequency=2, cutoff=0.3, step_fraction=1.0)
    late = None
    for t in range(10):
        train_step(model, optimizer)
        oialr.step()
        if t == 5:
            late = ModelEmaV3(model, decay=0.5)
        if t > 4:
            early.update_parameters(model)
        if t > 5:
            late.update(model)
    update_bn([torch.randn(16, 8) for _ in range(3)], early)
    for average in (early, late):
        ranks = {name: average.module.get_submodule(name).rank for name in oialr.ranks}
        assert ranks == oialr.ranks
    assert min(oialr.ranks.values()) < 8
    x = torch.randn(64, 8)
    for average in (early, late):
        assert loss_of(average.module.eval(), x) < 2 * loss_of(model.eval(), x)


def test_the_average_keeps_its_own_precision():
    torch.manual_seed(0)
    model = Net()
    average = AveragedModel(model, avg_fn=lambda ours, theirs, count: ours + (theirs - ours) / (count + 1))
    average.module.double()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    oialr = OIALR(model, optimizer, delay=2, frequency=2, cutoff=0.3, step_fraction=1.0)
    for _ in range(6):
        train_step(model, optimizer)
        oialr.step()
        average.update_parameters(model)
    assert average.module.up.sigma.dtype == torch.float64 and model.up.sigma.dtype == torch.float32
    assert torch.isfinite(average.module.eval()(torch.randn(2, 8).double())).all()


def test_averages_of_other_networks_stay_as_they_are():
    torch.manual_seed(0)
    model, other = Net(), Net()
    average, snapshot = ModelEmaV2(other, decay=KEEP), copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    oialr = OIALR(model, optimizer, delay=1, frequency=1, cutoff=0.3, step_fraction=1.0)
    for _ in range(4):
        train_step(model, optimizer)
        oialr.step()
        average.update(other)
    for untouched in (average.module, snapshot, other):
        assert not any(isinstance(module, LowRank) for module in untouched.modules())


@pytest.mark.parametrize("cut", [1, 5])
def test_a_saved_average_is_loaded_and_goes_on_the_same(tmp_path, cut):
    def start():
        torch.manual_seed(1)
        model = Net()
        average = ModelEmaV3(model, decay=KEEP)
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        oialr = OIALR(
            model, optimizer, delay=2, frequency=2, cutoff=0.3, step_fraction=0.6, averages=[average],
        )  # fmt: skip
        return oialr, model, optimizer, average

    def run(parts, steps):
        oialr, model, optimizer, average = parts
        for t in steps:
            torch.manual_seed(t)
            train_step(model, optimizer)
            average.update(model)
            oialr.step()

    whole = start()
    run(whole, range(9))
    half = start()
    run(half, range(cut))
    torch.save([part.state_dict() for part in half], tmp_path / "run.pt")
    resumed = start()
    for part, state in zip(resumed, torch.load(tmp_path / "run.pt", weights_only=True), strict=True):
        part.load_state_dict(state)
    run(resumed, range(cut, 9))
    for name, value in whole[3].state_dict().items():
        assert torch.equal(value, resumed[3].state_dict()[name]), name


def test_what_is_no_average_of_the_network_is_refused():
    with pytest.raises(TypeError, match="OIALR: averages: Linear holds no copy of the network, a Net"):
        OIALR(Net(), delay=0, frequency=1, averages=[nn.Linear(2, 2)])


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_low_precision_bases_of_a_copy_are_never_stale(duplicate):
    """Whatever changes a copy in place, also behind autograd's back."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    OIALR(model, delay=0, frequency=1)
    x = torch.randn(4, 8)

    def outputs(network):
        with torch.autocast("cpu", torch.bfloat16):
            trained = network(x)
            with torch.no_grad():
                return trained.detach(), network(x)

    outputs(model)
    copied = duplicate(model).requires_grad_(False)
    outputs(copied)
    other = copy.deepcopy(model)
    for layer in other:
        layer.set_factors(*(nn.Parameter(factor.flip(0), False) for factor in (layer.u, layer.sigma, layer.vt)))
    expected = outputs(other)
    with torch.no_grad():
        for ours, theirs in zip(copied.parameters(), other.parameters(), strict=True):
            ours.data.copy_(theirs)
    for found, wanted in zip(outputs(copied), expected, strict=True):
        torch.testing.assert_close(found, wanted)
