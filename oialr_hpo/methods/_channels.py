"""Output channels of convolutions, removed for good: what the methods share that make a network narrower."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from oialr_hpo.methods import Loop
from oialr_hpo.methods._channel_graph import Place, Unfollowed, cut, removable, tell_sizes
from oialr_hpo.oialr.averages import copy_in
from oialr_hpo.oialr.distributed import agreed, process_group, rebuild, unwrapped
from oialr_hpo.oialr.optimizers import Optimizers
from oialr_hpo.oialr.randomness import random_state_kept


@dataclass
class Prunable:
    """A convolution some of whose output channels can be removed; its modules stay the same ones when they are.

    Attributes:
        readers: the convolutions and linear layers whose inputs these channels are, by name. After a flattening a
            linear layer has as many inputs of each channel as it has pixels, one channel after the other.
        places: of all that belongs to the channels.
    """

    name: str
    conv: nn.Conv2d
    readers: list[tuple[str, nn.Module]]
    places: list[Place] = field(repr=False)


class Channels:
    """Output channels of a network's convolutions which can be removed without touching another layer's outputs: all of
    a VGG's, those inside a ResNet's blocks.

    Args:
        loop: the training, before its first step; its network, optimizer and averages follow what is removed. Nothing
            of it is changed yet, the state of the random numbers neither.
        method: its name, for errors.

    Attributes:
        layers: by name (without DistributedDataParallel), in the order of the forward pass.

    Raises:
        ValueError: there is no such convolution.
        TypeError: the optimizer cannot follow weights whose shape changes.
    """

    def __init__(self, loop: Loop, method: str) -> None:
        self._loop, self._network = loop, unwrapped(loop.model)
        self._optimizers = Optimizers(loop.optimizer, method)
        try:
            found = _found(self._network, loop) if _has_convolutions(self._network) else {}
        except Unfollowed as error:
            raise ValueError(f"{method}: {error}; take another network or method, such as rigl") from error
        if not found:
            raise ValueError(
                f"{method}: {type(self._network).__name__} has no convolution whose channels can be removed alone; "
                "take a network such as a VGG or a ResNet, or another method, such as rigl"
            )
        module: Callable[[str], Any] = self._network.get_submodule
        self.layers: dict[str, Prunable] = {
            name: Prunable(
                name,
                module(name),
                [(place.module, module(place.module)) for place in places if place.dim == 1],
                places,
            )
            for name, places in found.items()
        }
        self._full = self.widths()
        touched = {place.module for layer in self.layers.values() for place in layer.places}
        self._optimizers.check(parameter for name in touched for parameter in module(name).parameters())

    def keep(self, name: str, kept: Sequence[int]) -> None:
        """Remove all other output channels of a layer; see `keep_all`."""
        self.keep_all({name: kept})

    def keep_all(self, kept: Mapping[str, Sequence[int]]) -> None:
        """Remove all other output channels of these layers, between two steps: of weights, biases and norms, and of the
        inputs of what reads them; what the optimizer knows of the others goes on, and averages follow.

        Args:
            kept: channels of the layer as it is now, at least one, without repetition; they are put in ascending order.
        """
        _, *averages = self.networks()
        for name, channels in kept.items():
            if (chosen := sorted(channels)) == [*range(self.layers[name].conv.out_channels)]:
                continue
            cut(self._network, self.layers[name].places, chosen, self._optimizers.narrow)
            for average in averages:
                cut(average, self.layers[name].places, chosen)
        rebuild(self._loop.model)

    def keep_in(self, network: nn.Module, kept: Mapping[str, Sequence[int]]) -> None:
        """The same of another network with these layers, such as a copy that was kept, which nothing else follows."""
        for name, channels in kept.items():
            cut(network, self.layers[name].places, sorted(channels))

    def networks(self) -> list[nn.Module]:
        """The network and the copies of it in its averages, of the same widths."""
        return [self._network, *(copy_in(average, self._network) for average in self._loop.averages)]

    def tracked(self, names: Sequence[str]) -> list[str]:
        """Those of these layers whose shape stays."""
        touched = {place.module for layer in self.layers.values() for place in layer.places}
        return [name for name in names if name not in touched]

    def agreed(self, values: Tensor) -> Tensor:
        """The first process's values on all that train the network together."""
        return agreed(values, process_group(self._loop.model))

    def widths(self) -> dict[str, int]:
        """Output channels of each layer."""
        return {name: layer.conv.out_channels for name, layer in self.layers.items()}

    def full_widths(self) -> dict[str, int]:
        return {**self._full}

    def parameters(self, widths: Mapping[str, int]) -> int:
        """How many the network would have if the layers had these widths, each at most what it is now."""
        shapes = {name: [*parameter.shape] for name, parameter in self._network.named_parameters()}
        for name, width in widths.items():
            for place in self.layers[name].places:
                for key, parameter in self._network.get_submodule(place.module)._parameters.items():
                    if parameter is not None and parameter.dim() > place.dim and (place.dim == 0 or key == "weight"):
                        shape = shapes[f"{place.module}.{key}"]
                        shape[place.dim] = shape[place.dim] // self.layers[name].conv.out_channels * width
        return sum(torch.Size(shape).numel() for shape in shapes.values())

    def state_dict(self) -> dict[str, Any]:
        return {"widths": self.widths()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the widths, before the network's and the optimizer's values are loaded."""
        self.keep_all({name: range(width) for name, width in state["widths"].items()})


def load_narrow(network: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """A fresh network with these weights, whose widths it takes: the sizes of convolutions, linear layers and norms.

    Raises:
        RuntimeError: they are of another network.
    """
    for name, module in network.named_modules():
        narrow = False
        for registry in (module._parameters, module._buffers):
            for key, old in [*registry.items()]:
                given = weights.get(f"{name}.{key}" if name else key)
                if old is None or given is None or given.shape == old.shape or given.dim() != old.dim():
                    continue
                new = old.detach().new_empty(given.shape)
                registry[key] = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
                narrow = True
        if narrow:
            tell_sizes(module)
    network.load_state_dict(weights)
    return network


def _has_convolutions(network: nn.Module) -> bool:
    return any(isinstance(module, nn.Conv2d) for module in network.modules())


def _found(network: nn.Module, loop: Loop) -> dict[str, list[Place]]:
    with random_state_kept(next(network.parameters()).device):
        return removable(network, loop.loss, next(iter(loop.batches())))
