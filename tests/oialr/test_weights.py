"""Weights on disk and elsewhere: saved without pickle, loaded into a dense network, exported, refused when broken."""

import copy
import io

import pytest
import timm
import torch
import torchvision.models as tv
from safetensors.torch import load_file, save_file, save_model
from torch import nn

from oialr_hpo.oialr import OIALR, load_low_rank, merge
from oialr_hpo.oialr.layers import LowRank
from oialr_hpo.oialr.merging import Thin

NETWORKS = {
    "timm vit": lambda: timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, embed_dim=32, num_heads=2, num_classes=7
    ),
    "torchvision vit": lambda: tv.VisionTransformer(32, 8, 1, 4, 32, 64, num_classes=7),
    "resnet": lambda: timm.create_model("resnet18", channels=(8, 12, 16, 24), num_classes=7),
    "convnext": lambda: timm.create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 16, 24, 32), num_classes=7),
}


class Tied(nn.Module):
    """A weight in two layers with biases of their own, and a head that is the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.body = nn.Embedding(20, 8), nn.Linear(8, 8)
        self.wide, self.wider, self.back = nn.Linear(8, 60), nn.Linear(8, 60), nn.Linear(60, 8)
        self.head = nn.Linear(8, 20, bias=False)
        self.wider.weight, self.head.weight = self.wide.weight, self.tokens.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.body(self.tokens(x))
        return self.head(self.back(self.wide(hidden) + self.wider(hidden)))


def low_rank(model: nn.Module, cutoff: float = 0.5) -> OIALR:
    oialr = OIALR(model.eval(), delay=0, frequency=1, cutoff=cutoff, step_fraction=1)
    oialr.step()
    return oialr


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_safetensors_and_pickle_free_loading_into_a_fresh_dense_network(tmp_path, name, merged):
    torch.manual_seed(0)
    model = NETWORKS[name]()
    oialr = low_rank(model)
    if merged:
        oialr.merge()
        kinds = {type(module) for module in model.modules()}
        assert Thin in kinds and LowRank not in kinds
    x = torch.randn(2, 3, 32, 32)
    expected = model(x)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    torch.save(model.state_dict(), tmp_path / "model.pt")
    for state in (load_file(tmp_path / "model.safetensors"), torch.load(tmp_path / "model.pt", weights_only=True)):
        loaded = load_low_rank(NETWORKS[name](), state).eval()
        assert torch.equal(loaded(x), expected)
        assert {key: v.shape for key, v in loaded.state_dict().items()} == {key: v.shape for key, v in state.items()}


@pytest.mark.parametrize("merged", [False, True])
def test_tied_weights_stored_once_are_tied_again(tmp_path, merged):
    torch.manual_seed(0)
    model = Tied()
    oialr = low_rank(model)
    assert list(oialr.ranks) == ["body", "wide", "back"]
    if merged:
        oialr.merge()
    save_model(model, str(tmp_path / "model.safetensors"))
    stored = load_file(tmp_path / "model.safetensors")
    assert not any(key.startswith("wider.") and key != "wider.bias" for key in stored)
    loaded = load_low_rank(Tied(), stored)
    tokens = torch.arange(5)
    assert torch.equal(loaded(tokens), model(tokens))
    assert next(loaded.wide.parameters()) is next(loaded.wider.parameters()) or not merged
    assert merged or loaded.wide.sigma is loaded.wider.sigma
    assert loaded.head.weight is loaded.tokens.weight


def test_a_loaded_network_trains_on_in_low_rank():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 30), nn.GELU(), nn.Linear(30, 12))
    ranks = low_rank(model).ranks
    loaded = load_low_rank(nn.Sequential(nn.Linear(12, 30), nn.GELU(), nn.Linear(30, 12)), model.state_dict())
    trained = [name for name, p in loaded.named_parameters() if p.requires_grad]
    assert trained == ["0.bias", "0.sigma", "2.bias", "2.sigma"]
    assert [loaded[0].rank, loaded[2].rank] == list(ranks.values())


def test_weights_that_do_not_fit_are_refused():
    state = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)).state_dict()
    with pytest.raises(RuntimeError, match=r'Unexpected key.*"1.weight"'):
        load_low_rank(nn.Sequential(nn.Linear(4, 4)), state)


@pytest.mark.parametrize("name", ["torchvision vit", "convnext"])
def test_a_merged_network_can_be_exported(name):
    torch.manual_seed(0)
    model = NETWORKS[name]()
    oialr = low_rank(model)
    x = torch.randn(2, 3, 32, 32)
    expected = model(x)
    oialr.merge()
    program = io.BytesIO()
    torch.export.save(torch.export.export(model, (x,)), program)
    program.seek(0)
    exported = torch.export.load(program).module()
    torch.testing.assert_close(exported(x), expected, rtol=1e-4, atol=1e-4)


def test_merging_a_copy_leaves_the_network_in_training():
    model = nn.Sequential(nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 12))
    oialr = low_rank(model)
    x = torch.randn(3, 12)
    torch.testing.assert_close(merge(copy.deepcopy(model))(x), model(x), rtol=1e-4, atol=1e-5)
    oialr.step()
    assert isinstance(model[0], LowRank)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_sigma_that_is_no_longer_finite_names_its_layer(value):
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    oialr = low_rank(model)
    with torch.no_grad():
        model[0].sigma[0, 0] = value
    with pytest.raises(FloatingPointError, match="layer '0': .*lower the learning rate"):
        oialr.step()


def test_when_one_weight_is_not_finite_no_weight_is_replaced():
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    model[1].weight.data[0, 0] = float("inf")
    with pytest.raises(FloatingPointError, match="layer '1'"):
        OIALR(model, delay=0, frequency=1)
    assert [type(layer) for layer in model] == [nn.Linear, nn.Linear]
