"""Which convolutions have output channels that can be removed without touching what another layer gives out.

Torch-Pruning's dependency graph says which layers belong together; it is asked about a copy of the network, and only
names are kept of it. Left out are channels that residual sums, concatenations and depthwise convolutions tie to those
of other layers, those that norms other than batch norms mix, and the network's outputs. What is found is tried out on
copies before it is believed, since the graph sees neither every functional operation nor what only training runs.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import Parameter
from torch.utils._pytree import tree_leaves, tree_map

ALONG = (_BatchNorm, nn.PReLU)  # what has numbers of each channel's own
READERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
SAMPLES = 2  # of a batch; a batch norm of a single pixel needs two
CLOSE = 1e-2  # share of the outputs' range; a mistake in the channels is as large as the outputs, rounding is not

Run = Callable[[nn.Module], list[Tensor]]


class Unfollowed(Exception):
    """A network without a dependency graph."""


class Place(NamedTuple):
    """Where a layer's output channels are found: in dimension 0 of all tensors of a module, or 1 of its weight."""

    module: str
    dim: int


def removable(network: nn.Module, loss: Callable[[nn.Module, Any], Tensor], batch: Any) -> dict[str, list[Place]]:
    """The convolutions by name, in the order of the forward pass, each with the places of its channels, itself first;
    the network is left as it is.

    Args:
        loss: of a network and a batch, as `oialr_hpo.methods.Loop` has it.
        batch: whose tensors have the samples as their first dimension.

    Raises:
        Unfollowed: Torch-Pruning cannot follow this network.
    """
    few = tree_map(lambda leaf: leaf[:SAMPLES] if isinstance(leaf, Tensor) and leaf.dim() else leaf, batch)

    def run(model: nn.Module) -> list[Tensor]:
        seen: list[Any] = []
        handle = model.register_forward_hook(lambda _, __, output: seen.append(output))
        try:
            loss(model, few)
        finally:
            handle.remove()
        return [leaf for leaf in tree_leaves(seen) if isinstance(leaf, Tensor) and leaf.is_floating_point()]

    probe = copy.deepcopy(network).eval()
    for parameter in probe.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
        parameter.grad = None
    traced = copy.deepcopy(probe)  # some networks keep tensors of a forward pass, which cannot be copied
    run(traced)  # what is wrong with the network or the loss shows here
    try:
        found = _alone(traced, run)
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise Unfollowed(f"Torch-Pruning cannot follow {type(network).__name__}") from error
    if not _proves(probe, run, found):
        found = {name: places for name, places in found.items() if _proves(probe, run, {name: places})}
    return found


def _alone(probe: nn.Module, run: Run) -> dict[str, list[Place]]:
    """Those that the graph shows to be tied to no other layer."""
    import torch_pruning

    names = {module: name for name, module in probe.named_modules()}
    shared = _shared(probe)
    order: dict[nn.Conv2d, None] = {}

    def see(module: Any, *_: Any) -> None:
        order[module] = None

    hooks = [module.register_forward_hook(see) for module in names if isinstance(module, nn.Conv2d)]
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        graph = torch_pruning.DependencyGraph().build_dependency(
            probe, None, forward_fn=lambda model, _: [each for each in run(model) if each.grad_fn], verbose=False
        )
    for hook in hooks:
        hook.remove()
    found: dict[str, list[Place]] = {}
    for conv in order:
        if conv not in graph.module2node or conv.groups != 1 or conv.out_channels < 2:
            continue
        if places := _places(graph, conv, names, shared):
            found[names[conv]] = places
    return found


def _places(graph: Any, conv: nn.Conv2d, names: Mapping[nn.Module, str], shared: set[nn.Module]) -> list[Place]:
    """Where the channels of a convolution are found; nowhere if another layer's would have to go with them."""
    from torch_pruning.ops import OPTYPE

    kinds = (OPTYPE.ELEMENTWISE, OPTYPE.RESHAPE)
    start = graph.module2node[conv]
    found, readers, left = {start: Place(names[conv], 0)}, set(), [start]
    passing = {start}
    while left:
        for node in left.pop().outputs:
            module = node.module
            if module is conv:
                return []
            if isinstance(module, READERS):
                if getattr(module, "groups", 1) != 1 or module.weight.shape[1] % conv.out_channels:
                    return []
                readers.add(node)
                found[node] = Place(names[module], 1)
            elif node not in passing:
                if isinstance(module, ALONG):
                    found[node] = Place(names[module], 0)
                elif node.type not in kinds:
                    return []
                passing.add(node)
                left.append(node)
    for node in (passing | readers) - {start}:
        for given in node.inputs:
            of_weights = given.type in kinds and not given.inputs
            if given not in passing and not of_weights:
                return []
    places = [*found.values()]
    modules = {graph.model.get_submodule(place.module) for place in places}
    plain = all(isinstance(module._parameters.get("weight"), Parameter) or _bare(module) for module in modules)
    complete = all(_channels(graph.model, place) % conv.out_channels == 0 for place in places)
    return places if readers and plain and complete and not modules & shared else []


def _bare(module: nn.Module) -> bool:
    """Whether it has nothing to learn."""
    return not any(True for _ in module.parameters())


def _channels(network: nn.Module, place: Place) -> int:
    """The size of a place's dimension, 0 where no tensor tells."""
    module = network.get_submodule(place.module)
    tensors = [each for each in (*module._parameters.values(), *module._buffers.values()) if each is not None]
    return next((each.shape[place.dim] for each in tensors if each.dim() > place.dim), 0)


def _shared(network: nn.Module) -> set[nn.Module]:
    """The modules that have a parameter in common with another."""
    owners: dict[int, set[nn.Module]] = {}
    for module in network.modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), set()).add(module)
    return {module for each in owners.values() if len(each) > 1 for module in each}


def _proves(probe: nn.Module, run: Run, found: Mapping[str, list[Place]]) -> bool:
    """Whether without every second channel of these layers the network computes the same as where nothing reads them,
    and can be trained."""
    silent, narrow = copy.deepcopy(probe), copy.deepcopy(probe)
    for name, places in found.items():
        width: int = len(narrow.get_submodule(name).weight)  # type: ignore[arg-type]
        for place in places:
            if place.dim == 1:
                weight: Any = silent.get_submodule(place.module).weight
                weight.data.unflatten(1, (width, -1))[:, 1::2] = 0
        cut(narrow, places, range(0, width, 2))
    try:
        with torch.no_grad():
            pairs = [*zip(run(silent), run(narrow), strict=True)]
            run(narrow.train())
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError):
        return False
    return all(a.shape == b.shape and bool((a - b).abs().max() <= CLOSE * a.abs().max()) for a, b in pairs)


def cut(
    network: nn.Module,
    places: Iterable[Place],
    kept: Sequence[int],
    replace: Callable[[Parameter, Parameter, Callable[[Tensor], Tensor]], None] | None = None,
) -> None:
    """Keep only these output channels of a convolution, in new parameters and buffers.

    Args:
        places: of the channels, the convolution first.
        replace: is told of each old parameter, the new one, and what gives such a part of a tensor of its shape.
    """
    first, *_ = places = [*places]
    channels = len(network.get_submodule(first.module).weight)  # type: ignore[arg-type]
    for name, dim in places:
        module = network.get_submodule(name)

        def part(tensor: Tensor, dim: int = dim) -> Tensor:
            chosen = torch.tensor(kept, device=tensor.device)
            taken = tensor.unflatten(dim, (channels, -1)).index_select(dim, chosen).flatten(dim, dim + 1)
            columns = tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
            is_last = columns and not tensor.is_contiguous()
            return taken.contiguous(memory_format=torch.channels_last if is_last else torch.contiguous_format)

        registries: tuple[dict[str, Any], ...] = module._parameters, module._buffers
        for registry in registries:
            for key, old in [*registry.items()]:
                if old is None or old.dim() <= dim or (dim == 1 and key != "weight"):
                    continue
                new = part(old.detach())
                if isinstance(old, Parameter):
                    new = Parameter(new, requires_grad=old.requires_grad)
                    if replace:
                        replace(old, new, part)
                registry[key] = new
        tell_sizes(module)


def tell_sizes(module: nn.Module) -> None:
    """Lets a layer's attributes say what its tensors' shapes are."""
    tensors = [each for each in (*module._parameters.values(), *module._buffers.values()) if each is not None]
    shape = tensors[0].shape if tensors else torch.Size()
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        if module.groups == module.in_channels > 1:
            module.groups = shape[0] * module.groups // module.out_channels
        module.out_channels, module.in_channels = shape[0], shape[1] * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = shape
    elif isinstance(module, _BatchNorm) and shape:
        module.num_features = shape[0]
    elif isinstance(module, nn.PReLU):
        module.num_parameters = shape[0]
