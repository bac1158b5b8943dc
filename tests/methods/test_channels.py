"""Channels that are removed: which ones can be, and what follows them."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from oialr_hpo.methods import Loop
from oialr_hpo.methods._channels import Channels, Prunable, load_narrow
from oialr_hpo.tasks.image_classification.networks import build_network

SIDE = 8
Batch = tuple[Tensor, Tensor]


class Residual(nn.Module):
    """A stem and two blocks whose sums tie `stem` and both `second`; the head reads 2 x 2 pixels of each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.first = nn.ModuleList(nn.Conv2d(6, 5, 3, padding=1, bias=False) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(5) for _ in range(2))
        self.second = nn.ModuleList(nn.Conv2d(5, 6, 3, padding=1) for _ in range(2))
        self.last, self.shape = nn.Conv2d(6, 4, 3, stride=4, padding=1), nn.PReLU(4)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for first, norm, second in zip(self.first, self.norms, self.second, strict=True):
            x = x + second(F.relu(norm(first(x)), inplace=True))
        logits: Tensor = self.head(self.shape(self.last(x)).flatten(1))
        return logits


class Odd(nn.Module):
    """Channels that cannot go alone, for a reason each, and some between them that can."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("catted", "beside", "shuffled", "twice", "normed", "heard", "free", "out"):
            self.add_module(name, nn.Conv2d(8, 8, 3, padding=1))
        self.of_cat = nn.Conv2d(16, 8, 1)
        self.of_shuffled = nn.Conv2d(2, 8, 1)
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.of_depth, self.of_normed = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.group = nn.GroupNorm(2, 8)
        self.hearing = nn.Linear(8, 3)
        self.tied, self.again = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.again.weight = self.tied.weight
        self.few = nn.Conv2d(3, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.few(x)
        x = self.of_cat(torch.cat([self.catted(x), self.beside(x)], 1))
        x = self.of_shuffled(F.pixel_shuffle(self.shuffled(x), 2))
        x = self.twice(self.twice(x))
        x = self.of_depth(self.depth(x))
        x = self.of_normed(self.group(self.normed(x)))
        x = self.again(self.tied(x))
        x = self.heard(x)
        heard = self.hearing(x.mean((2, 3))).sum() if self.training else 0.0
        return self.out(self.free(F.relu(x))).flatten(1) + heard


def vgg() -> nn.Module:
    return build_network("vgg11_cifar", {"img_size": SIDE, "width": 1 / 16})


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def images(count: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, SIDE, SIDE, generator=generator), torch.arange(count) % 10


def attached(network: nn.Module, optimizer: Any = None, averages: tuple[nn.Module, ...] = ()) -> Channels:
    optimizer = optimizer or torch.optim.SGD(network.parameters(), 0.1)
    dtype = next(network.parameters()).dtype

    def batches() -> Any:
        torch.rand(1)
        yield images()[0].to(dtype), images()[1]

    return Channels(Loop(network, optimizer, cross_entropy, 10, 5, [*averages], batches), "any")


def steps(network: nn.Module, optimizer: torch.optim.Optimizer, count: int = 2) -> float:
    for _ in range(count):
        loss = cross_entropy(network, images())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


def trained(network: nn.Module, kind: Any = torch.optim.AdamW) -> torch.optim.Optimizer:
    optimizer: torch.optim.Optimizer = kind(network.parameters(), 0.01)
    steps(network.train(), optimizer)
    return optimizer


def norms(network: nn.Module, layer: Prunable) -> list[nn.Module]:
    """The batch norms that its channels have numbers in."""
    modules = [network.get_submodule(place.module) for place in layer.places]
    return [module for module in modules if isinstance(module, nn.BatchNorm2d)]


def test_all_layers_of_a_vgg_and_those_inside_residual_blocks() -> None:
    network = vgg()
    layers = attached(network).layers
    assert [*layers] == [f"features.{i}" for i in (0, 4, 8, 11, 15, 18, 21, 24)]
    for layer in layers.values():
        (norm,) = norms(network, layer)
        assert norm.num_features == layer.conv.out_channels
    assert [reader for reader, _ in layers["features.24"].readers] == ["classifier"]
    residual = Residual()
    channels = attached(residual)
    assert channels.widths() == {"first.0": 5, "first.1": 5, "last": 4}
    assert norms(residual, channels.layers["first.1"]) == [residual.norms[1]]
    assert norms(residual, channels.layers["last"]) == []
    assert channels.layers["first.1"].readers == [("second.1", residual.second[1])]
    assert [*attached(build_network("resnet18_cifar", {})).layers] == [
        f"layer{stage}.{block}.conv1" for stage in range(1, 5) for block in range(2)
    ]


def test_channels_that_others_depend_on_stay() -> None:
    """In concatenations, shuffles, layers used twice, depthwise convolutions, group norms, layers that share a weight,
    what another part reads in training alone, and the output."""
    assert [*attached(Odd()).layers] == ["few", "of_cat", "of_depth", "free"]


def test_looking_changes_nothing() -> None:
    network = vgg().train()
    network.features[1].eval()  # type: ignore[index,union-attr]
    modes = [module.training for module in network.modules()]
    before, random = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    attached(network)
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("build", [vgg, Residual])
@settings(max_examples=12)
@given(data=st.data())
def test_the_network_computes_the_same_as_with_zeros(build: Callable[[], nn.Module], data: st.DataObject) -> None:
    """The channels' filters, biases and norms are zero there, as are their biases; in training mode too."""
    torch.manual_seed(0)
    network = build().double()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for each in (module.weight, module.bias, module.running_mean, module.running_var):
                nn.init.uniform_(each, 0.5, 1.5)  # type: ignore[arg-type]
    if data.draw(st.booleans(), "channels_last"):
        network = network.to(memory_format=torch.channels_last)
    channels = attached(network)
    zeroed, kept = copy.deepcopy(network), {}
    for name, layer in channels.layers.items():
        numbers = st.sets(st.integers(0, layer.conv.out_channels - 1), min_size=1)
        kept[name] = data.draw(numbers, name)
        gone = [i for i in range(layer.conv.out_channels) if i not in kept[name]]
        for each in (zeroed.get_submodule(name), *norms(zeroed, layer)):
            for tensor in each.parameters():
                tensor.data[gone] = 0
    channels.keep_all({name: [*each] for name, each in kept.items()})
    assert channels.widths() == {name: len(each) for name, each in kept.items()}
    pixels = images()[0].double()
    for mode in (False, True):
        torch.testing.assert_close(network.train(mode)(pixels), zeroed.train(mode)(pixels), rtol=1e-9, atol=1e-9)


def test_sizes_are_told_and_counted() -> None:
    network = Residual()
    channels = attached(network)
    planned = channels.parameters({"first.0": 2, "last": 1})
    channels.keep("first.0", [4, 1])
    channels.keep("last", range(1))
    assert channels.widths() == {"first.0": 2, "first.1": 5, "last": 1}
    assert channels.full_widths() == {"first.0": 5, "first.1": 5, "last": 4}
    assert planned == sum(parameter.numel() for parameter in network.parameters())
    first, norm, second = network.first[0], network.norms[0], network.second[0]
    assert (first.out_channels, norm.num_features, second.in_channels) == (2, 2, 2)
    assert (network.last.out_channels, network.shape.num_parameters, network.head.in_features) == (1, 1, 4)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9)])
def test_what_the_optimizer_knows_of_the_others_goes_on(kind: Any) -> None:
    network = Residual()
    optimizer = trained(network, kind)
    before = {
        name: {key: value.clone() for key, value in optimizer.state[parameter].items()}
        for name, parameter in network.named_parameters()
    }
    channels = attached(network, optimizer)
    channels.keep_all({"first.0": [0, 3], "last": [1, 2]})
    assert all(a is b for a, b in zip(optimizer.param_groups[0]["params"], network.parameters(), strict=True))
    assert set(optimizer.state) == set(network.parameters())
    columns = [*range(4, 12)]
    taken: dict[str, Any] = {
        **dict.fromkeys(["first.0.weight", "norms.0.weight", "norms.0.bias"], [0, 3]),
        **dict.fromkeys(["last.weight", "last.bias", "shape.weight"], [1, 2]),
        "second.0.weight": (slice(None), [0, 3]),
        "head.weight": (slice(None), columns),
    }
    for name, parameter in network.named_parameters():
        for key, value in optimizer.state[parameter].items():
            old = before[name][key]
            assert torch.equal(value, old if old.dim() == 0 else old[taken.get(name, slice(None))])
    steps(network, optimizer)


def test_a_state_without_parts_starts_afresh_with_a_warning() -> None:
    network = Residual()
    optimizer = trained(network, torch.optim.Adafactor)
    with pytest.warns(UserWarning, match="^Adafactor: 'row_var' has no part for a part of a weight; .* starts afresh$"):
        attached(network, optimizer).keep("last", [0])
    steps(network, optimizer)


def test_averages_follow() -> None:
    network = Residual()
    optimizer = trained(network)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    average.update_parameters(network)
    expected = average.module.head.weight[:, 8:12].clone()
    steps(network, optimizer)
    attached(network, optimizer, (average,)).keep("last", [2])
    assert torch.equal(average.module.head.weight, expected) and average.module.last.out_channels == 1
    average.update_parameters(network)
    torch.testing.assert_close(average.module.head.weight, 0.5 * expected + 0.5 * network.head.weight)


def test_a_training_goes_on_from_its_state() -> None:
    def build() -> tuple[nn.Module, torch.optim.Optimizer, AveragedModel]:
        network = Residual().to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(network.parameters(), 0.01)
        return network, optimizer, AveragedModel(network, use_buffers=True)

    def run(network: nn.Module, optimizer: torch.optim.Optimizer, average: AveragedModel) -> list[Tensor]:
        steps(network.train(), optimizer)
        average.update_parameters(network)
        return [*network.state_dict().values(), *average.state_dict().values()]

    network, optimizer, average = build()
    channels = attached(network, optimizer, (average,))
    run(network, optimizer, average)
    channels.keep_all({"first.0": [0, 3], "last": [1, 2]})
    run(network, optimizer, average)
    states = copy.deepcopy([each.state_dict() for each in (channels, network, optimizer, average)])
    expected = run(network, optimizer, average)
    others = build()
    for each, state in zip([attached(others[0], others[1], others[2:]), *others], states, strict=True):
        each.load_state_dict(state)  # type: ignore[attr-defined]
    assert all(torch.equal(a, b) for a, b in zip(run(*others), expected, strict=True))


def test_its_weights_are_loaded_into_a_fresh_network() -> None:
    network = nn.Sequential(Residual(), nn.LayerNorm(10), nn.Linear(10, 10))
    attached(network).keep_all({"0.first.1": [2], "0.last": [0, 3]})
    fresh = load_narrow(nn.Sequential(Residual(), nn.LayerNorm(10), nn.Linear(10, 10)), network.state_dict())
    assert torch.equal(fresh.eval()(images()[0]), network.eval()(images()[0]))
    assert fresh[0].head.in_features == 8 and fresh[0].norms[1].num_features == 1  # type: ignore[index,union-attr]
    with pytest.raises(RuntimeError):
        load_narrow(vgg(), network.state_dict())


def test_a_copy_is_narrowed_alone() -> None:
    network = Residual().eval()
    channels, other = attached(network), copy.deepcopy(network)
    channels.keep_in(other, {"last": [1]})
    assert other.head.in_features == 4 and network.head.in_features == 16


def test_several_processes_go_on_with_new_sums_of_gradients() -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        network = Residual()
        together = DistributedDataParallel(network)
        optimizer = torch.optim.AdamW(network.parameters())
        channels = attached(together, optimizer)
        assert torch.equal(channels.agreed(torch.arange(3)), torch.arange(3))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            steps(together, optimizer)
            channels.keep("last", [0])
            steps(together, optimizer)
        assert network.head.weight.shape == (10, 4)
    finally:
        dist.destroy_process_group()


def test_what_cannot_be_narrowed_is_refused_in_a_line() -> None:
    vit = build_network("vit_tiny_patch16_224", {"img_size": SIDE, "patch_size": 4, "depth": 1, "num_classes": 10})
    for network in (vit, nn.Linear(2, 2)):
        message = f"^any: {type(network).__name__} has no convolution whose channels can be removed alone; take a .*$"
        with pytest.raises(ValueError, match=message):
            attached(network)
    shuffling = build_network("torchvision/shufflenet_v2_x0_5", {"num_classes": 10})
    with pytest.raises(ValueError, match="^any: Torch-Pruning cannot follow ShuffleNetV2; take another network or .*$"):
        attached(shuffling)
    network = Residual()
    with pytest.raises(TypeError, match="^any: the optimizer LBFGS keeps .*; use another, such as"):
        attached(network, torch.optim.LBFGS(network.parameters()))
