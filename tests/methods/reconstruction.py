"""A small network, of which CP and ThiNet are worked out plainly at full width: what is removed has weights of zero."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from oialr_hpo.methods import Loop, Method
from oialr_hpo.training.objective import build_task

READERS = {0: 2, 2: 6, 6: 9}
"""Layers and those that read them, by their place in the network."""
SMALL = {
    "model.arguments": {"in_chans": 1, "img_size": 8, "width": 0.1},
    "training.epochs": 3,
    "training.batch_size": 256,
    "training.ema_decay": 0.5,
}
"""Of vgg_digits: six steps an epoch."""


def network() -> nn.Sequential:
    torch.manual_seed(0)
    made = nn.Sequential(
        *(nn.Conv2d(2, 8, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(8, 10, 3, padding=1, bias=False), nn.BatchNorm2d(10), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        *(nn.Conv2d(10, 6, 3, stride=2, padding=1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(24, 3)),
    )
    nn.init.normal_(made[3].running_mean, std=0.1)
    return made.double()


def images(number: int, seed: int = 1) -> Tensor:
    return torch.randn(number, 2, 8, 8, generator=torch.Generator().manual_seed(seed)).double()


class Idle:
    """A step that moves nothing."""

    def backward(self) -> None:
        pass

    def update(self) -> bool:
        return True


def attach(kind: type[Method], model: nn.Module, **settings: Any) -> Method:
    """With SGD, whose momentum is there already, an average, and two batches of 12 images."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return model(batch).square().mean()

    def batches() -> Iterator[Tensor]:
        torch.rand(1)
        yield from images(24).split(12)

    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    loop = Loop(model, optimizer, loss, 10, 2, [AveragedModel(model)], batches)
    return kind(kind.Settings(**settings), loop)


def inputs(layer: Any, x: Tensor) -> Tensor:
    """(N, C, K) of all positions in all images; a flattened image has four pixels of each channel."""
    if isinstance(layer, nn.Linear):
        return x.view(len(x), -1, 4)
    columns = F.unfold(x, layer.kernel_size, padding=layer.padding, stride=layer.stride)
    return columns.transpose(1, 2).reshape(-1, x.shape[1], 9)


def outputs(layer: Any, x: Tensor) -> Tensor:
    """(N, n) of the same, without the bias."""
    y = layer(x) - (0 if layer.bias is None else layer.bias.view(-1, *[1] * (x.dim() - 2)))
    return y.flatten(2).transpose(1, 2).flatten(0, 1) if y.dim() > 2 else y


def worked_out(
    dense: nn.Sequential, layers: dict[str, int], prune: Callable[[Tensor, Tensor, Tensor, int], dict[int, np.ndarray]]
) -> nn.Sequential:
    """The pruned network at full width.

    Args:
        layers: their widths, by name.
        prune: gives the weights (n, K) of each channel that stays, from the reader's inputs now, its outputs at first,
            its weight (n, C, K) and the width.
    """
    pruned = deepcopy(dense).eval()
    dense = deepcopy(dense).eval()
    with torch.no_grad():
        for layer, reader in READERS.items():
            now, before = pruned[:reader](images(24)).clone(), dense[:reader](images(24)).clone()
            x, y = inputs(pruned[reader], now), outputs(dense[reader], before)
            weight = pruned[reader].weight.reshape(y.shape[1], *x.shape[1:])
            kept = prune(x, y, weight.clone(), layers[str(layer)])
            weight.zero_()
            for channel, column in kept.items():
                weight[:, channel] = torch.from_numpy(column)
    return pruned


def check(method: Method, before: nn.Sequential, expected: nn.Sequential) -> None:
    """The network computes the same; the average has the same readers, which start afresh in the optimizer; nothing
    else has changed."""
    after: Any = method.loop.model
    assert after.training and after[3].training
    assert set(after[3].running_mean.tolist()) < set(before[3].running_mean.tolist())
    average: Any = method.loop.averages[0]
    average = average.module
    for reader in READERS.values():
        assert torch.equal(average[reader].weight, after[reader].weight)
        assert not method.loop.optimizer.state[after[reader].weight]["momentum_buffer"].any()
    momentum = method.loop.optimizer.state[after[0].weight]["momentum_buffer"]
    assert momentum.shape == after[0].weight.shape == (method.layers()["0"], 2, 3, 3)
    fresh = images(5, seed=2)
    assert torch.allclose(after.eval()(fresh), expected.eval()(fresh), atol=1e-9)


def small_task(experiment: Any) -> Any:
    return build_task(experiment, seed=0, device=torch.device("cpu"), data_dir=None)
