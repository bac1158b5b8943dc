"""What CP and ThiNet share: a layer's channels as the next layer has them, at random positions, and least squares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oialr_hpo.methods import Loop
from oialr_hpo.oialr.averages import copy_in
from oialr_hpo.oialr.decomposition import exactly
from oialr_hpo.oialr.distributed import unwrapped
from oialr_hpo.oialr.randomness import random_state_kept

Take = Callable[[Tensor, Tensor], None]
"""Is shown what a layer gets and gives, both of the same images, in their first dimension."""


def front(names: Sequence[str], depth: float) -> list[str]:
    """The layers that are pruned: this share of all, from the front, and at least one."""
    return list(names)[: max(1, round(depth * len(names)))]


def look(loop: Loop, images: int, watched: Sequence[tuple[nn.Module, Mapping[nn.Module, Take]]]) -> None:
    """Pass training images through networks, every batch through all of them in turn.

    Nothing changes: the networks are in eval mode, and torch's random state is what it was afterwards.

    Args:
        images: at most so many, and as many as an epoch has.
        watched: networks, each with those of its layers that are to be shown.
    """
    seen = 0

    def hook(take: Take) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
        return lambda _, inputs, output: take(inputs[0][: images - seen], output[: images - seen])

    handles = [layer.register_forward_hook(hook(take)) for _, takes in watched for layer, take in takes.items()]
    first = next(iter(watched[0][1]))
    size: list[int] = []
    handles.append(first.register_forward_hook(lambda _, inputs, output: size.append(len(output))))
    try:
        with _quiet([network for network, _ in watched]):
            for batch in loop.batches():
                for network, _ in watched:
                    loop.loss(network, batch)
                seen += size[-1]
                if seen >= images:
                    return
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _quiet(networks: Sequence[nn.Module]) -> Iterator[None]:
    modes = [(module, module.training) for network in networks for module in network.modules()]
    for network in networks:
        network.eval()
    try:
        with exactly(), random_state_kept(next(networks[0].parameters()).device):
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def multiplications(loop: Loop) -> dict[str, int]:
    """Of each convolution and linear layer of the network, for an image."""
    network = unwrapped(loop.model)
    found: dict[str, int] = {}

    def counter(name: str, layer: Any) -> Take:
        def count(inputs: Tensor, output: Tensor) -> None:
            found[name] = positions(layer, output) * layer.weight.numel()

        return count

    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, kinds)}
    look(loop, 1, [(network, {layer: counter(name, layer) for name, layer in layers.items()})])
    return found


def drawn(images: int, choices: int, number: int, generator: torch.Generator) -> Tensor:
    """For each image `number` of the choices, drawn with replacement, or all where there are no more: (images,
    number)."""
    if choices <= number:
        return torch.arange(choices).expand(images, -1)
    return torch.randint(choices, (images, number), generator=generator)


def positions(layer: nn.Module, output: Tensor) -> int:
    """Of a layer's output, in each image."""
    weight: Any = layer.weight
    return output[0].numel() // len(weight)


def inputs_at(layer: nn.Module, inputs: Tensor, channels: int, at: Tensor) -> Tensor:
    """What an output of the layer at these positions is computed from.

    Args:
        layer: a convolution of one group, or a linear layer, whose inputs are `channels` groups then.
        inputs: of the layer, (B, C, ...) or (B, ..., C K).
        at: positions of the output, flat, (B, number).

    Returns:
        (B, number, channels, K), in the order of the layer's weight, with K its inputs from a channel.
    """
    at = at.to(inputs.device)
    image = torch.arange(len(inputs), device=inputs.device)[:, None]
    if isinstance(layer, nn.Linear):
        return inputs.reshape(len(inputs), -1, inputs.shape[-1])[image, at].unflatten(-1, (channels, -1))
    assert isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    windows = F.pad(inputs, layer._reversed_padding_repeated_twice, mode)
    dimensions = range(2, inputs.dim())
    for i, d in enumerate(dimensions):
        reach = layer.dilation[i] * (layer.kernel_size[i] - 1) + 1
        windows = windows.unfold(d, reach, layer.stride[i])[..., :: layer.dilation[i]]
    places = torch.unravel_index(at, [windows.shape[d] for d in dimensions])
    index: Any = (image, slice(None), *places)
    return windows[index].flatten(3)


def outputs_at(layer: nn.Module, output: Tensor, at: Tensor) -> Tensor:
    """The layer's outputs at these positions, without its bias: (B, number, n)."""
    linear = isinstance(layer, nn.Linear)
    flat = output.reshape(len(output), -1, output.shape[-1]) if linear else output.flatten(2).transpose(1, 2)
    found = flat[torch.arange(len(flat), device=flat.device)[:, None], at.to(flat.device)]
    bias: Any = layer.bias
    return found if bias is None else found - bias


def by_channel(layer: nn.Module, channels: int) -> Tensor:
    """The layer's weight as (n, channels, K)."""
    weight: Any = layer.weight
    return weight.detach().reshape(len(weight), channels, -1)


def finite(sums: Tensor, layer: str) -> Tensor:
    """The sums themselves.

    Raises:
        FloatingPointError: what the layer gets or gives is not finite.
    """
    if not sums.isfinite().all():
        raise FloatingPointError(
            f"layer '{layer}': its inputs hold NaN or infinity (training diverged); lower the learning rate"
        )
    return sums.detach()


def least_squares(xx: Tensor, xy: Tensor, start: Tensor) -> Tensor:
    """The w that minimises |X w - y|^2; where it is not unique, the one nearest to `start`.

    Args:
        xx: X^T X (d x d), of float64.
        xy: X^T y (d) or (d x n).
        start: in the shape of `xy`.
    """
    return start + torch.linalg.pinv(xx, hermitian=True) @ (xy - xx @ start)


@exactly()
def set_weight(loop: Loop, name: str, weight: Tensor) -> None:
    """Give a layer this weight (n, channels, K), and the averages too; in the optimizer it starts afresh."""
    network = unwrapped(loop.model)
    for each in (network, *(copy_in(average, network) for average in loop.averages)):
        parameter = each.get_submodule(name).get_parameter("weight")
        parameter.copy_(weight.reshape(parameter.shape))
    state = loop.optimizer.state
    parameter = network.get_submodule(name).get_parameter("weight")
    if [*state.get(parameter, {})] == ["momentum_buffer"]:  # SGD's, whose fused kind wants those of all weights
        state[parameter]["momentum_buffer"].zero_()
    else:
        state.pop(parameter, None)
