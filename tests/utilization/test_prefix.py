"""Running a network from some layer on gives what the whole network gives."""

import pytest
import timm
import torch
import torchvision.models as tv
from torch import nn

from oialr_hpo.oialr import plan
from oialr_hpo.oialr.conversion import unfuse
from oialr_hpo.utilization import prefix
from oialr_hpo.utilization.gram import rows_per_image


class Shared(nn.Module):
    """One module called three times, its results read across others, and changed in place."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.act, self.first, self.last = nn.Linear(8, 8), nn.ReLU(True), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.mix(x)
        b = self.act(self.mix(a))
        c = self.first(b)
        c += a
        return self.last(self.mix(c)) + b


NETWORKS = {
    "vit": lambda: timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2),
    "swin": lambda: timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=64, window_size=4, depths=(1, 1), num_heads=(3, 6)
    ),
    "resnet": lambda: timm.create_model("resnet26d", channels=(8, 16, 24, 32)),
    "squeeze": lambda: timm.create_model("resnetrs50", layers=(1, 1, 1, 1), channels=(8, 16, 24, 32)),
    "torchvision vit": lambda: tv.VisionTransformer(32, 8, 2, 4, 64, 128, num_classes=7),
    "densenet": lambda: tv.DenseNet(8, (2, 2), 16, num_classes=7),
    "shared": Shared,
}


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_a_network_runs_on_from_every_layer(name: str) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]().double().eval()
    for parameter in network.parameters():  # no layer that does nothing, such as a zero last batch norm
        parameter.add_(0.05 * torch.randn_like(parameter))
    layers = plan(network)
    unfuse(network, layers)
    x = torch.randn(3, *([8] if name == "shared" else [3, *[64 if name == "swin" else 32] * 2]), dtype=torch.float64)
    modules = {layer.name: [network.get_submodule(layer.name)] for layer in layers if not layer.reason}
    expected, kept = network(x), prefix.Results()
    for layer in rows_per_image(network, modules, x):
        reads = prefix.results_read(network, modules[layer], x[:2])
        kept = prefix.record(network, modules[layer], x, reads, kept)
        for _ in range(2):  # nothing kept is changed by running on
            torch.testing.assert_close(prefix.run(network, x, kept), expected)
        places = prefix.layout(network, modules[layer], x[[0, 1, 2, 0]], reads)
        assert places is not None
        some = prefix.select([(kept, torch.tensor([2])), (kept, torch.tensor([0, 1]))], places)
        torch.testing.assert_close(prefix.run(network, x[[2, 0, 1]], some), expected[[2, 0, 1]])
        weight = modules[layer][0].weight
        weight.mul_(1.1)
        changed = network(x)
        torch.testing.assert_close(prefix.run(network, x, kept), changed)
        expected = changed
    assert not any("forward" in vars(module) for module in network.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


class TimeFirst(nn.Module):
    """Runs over (time, inputs, features), beside something that all inputs share."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.shared = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(1, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x.transpose(0, 1)) + self.shared(torch.ones(1))).mean(0)


class Mixed(nn.Module):
    """Every input's result depends on the others."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 8)
        self.norm = nn.BatchNorm1d(8, track_running_stats=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.norm(self.first(x)))


@torch.no_grad()
def test_inputs_are_told_apart_wherever_their_dimension_is() -> None:
    torch.manual_seed(0)
    network, x = TimeFirst(), torch.randn(5, 4, 8)
    reads = prefix.results_read(network, [network.last], x[:2])
    places = prefix.layout(network, [network.last], x[:4], reads)
    assert places == {network.first: [prefix.Place(1, 1)], network.shared: [prefix.Place(0, 0)]}
    parts = [
        (prefix.record(network, [network.last], part, reads, {}), rows)
        for part, rows in ((x[:3], torch.tensor([0, 2])), (x[3:], torch.tensor([1])))
    ]
    torch.testing.assert_close(prefix.run(network, x[[0, 2, 4]], prefix.select(parts, places)), network(x)[[0, 2, 4]])


@torch.no_grad()
def test_results_that_belong_to_no_single_input_are_not_kept() -> None:
    torch.manual_seed(0)
    network, x = Mixed(), torch.randn(4, 8)
    reads = prefix.results_read(network, [network.last], x[:2])
    assert prefix.layout(network, [network.last], x, reads) is None


@torch.no_grad()
def test_of_a_chain_of_blocks_only_the_last_result_is_kept() -> None:
    network = nn.Sequential(*[nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(6)])
    x = torch.randn(4, 8)
    reads = prefix.results_read(network, [network[5][0]], x)
    assert reads == {(network[4], 0)}
    assert prefix.size(prefix.record(network, [network[5][0]], x, reads, {})) == x.nbytes
