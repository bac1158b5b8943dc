"""What runs before a layer, kept: a network runs again from that layer on, whatever its forward pass looks like.

Modules that end before the layer starts are not run but give what they gave before. Kept are only the results that
something else than such a module reads, which in a chain of blocks is the last block's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

Results = dict[nn.Module, list[Any]]
"""What each module's first calls of a forward pass gave."""
Reads = set[tuple[nn.Module, int]]
"""Modules and the number of the call whose result is read."""


@dataclass(frozen=True)
class Place:
    """Where one input's part of a kept tensor lies: `rows` of dimension `dim`; no rows where inputs share it."""

    dim: int
    rows: int


Layout = dict[nn.Module, list[Any]]
"""As `Results`, with a `Place` for every tensor that is kept."""

UNREAD = torch.empty(0)


def results_read(network: nn.Module, layer: Collection[nn.Module], x: Tensor) -> Reads:
    """Which results of the modules that end before `layer` (the modules with one weight) matter to the rest."""
    reads: Reads = set()

    def watch(result: Any, call: tuple[nn.Module, int]) -> Any:
        return tree_map(lambda leaf: _Watched.around(leaf, reads, call) if isinstance(leaf, Tensor) else leaf, result)

    results = run_until(network, layer, x, {})
    watched = {
        module: [watch(result, (module, number)) for number, result in enumerate(given)]
        for module, given in results.items()
    }
    with replaying(watched, copy=False):
        network(x)
    return reads


def record(network: nn.Module, layer: Collection[nn.Module], x: Tensor, reads: Reads, before: Results) -> Results:
    """The results for an input that `run` needs, from those for an earlier layer (or none)."""

    def keep(result: Any, call: tuple[nn.Module, int]) -> Any:
        return result if call in reads else tree_map(lambda leaf: UNREAD if isinstance(leaf, Tensor) else leaf, result)

    results = run_until(network, layer, x, before)
    return {
        module: [keep(result, (module, number)) for number, result in enumerate(given)]
        for module, given in results.items()
    }


@torch.no_grad()
def layout(network: nn.Module, layer: Collection[nn.Module], x: Tensor, reads: Reads) -> Layout | None:
    """How what `record` keeps divides into inputs, found out with x, four of them; None if it does not."""
    all_of_x, half = record(network, layer, x, reads, {}), record(network, layer, x[2:], reads, {})
    try:
        return {
            module: [tree_map(_place, *pair) for pair in zip(given, half[module], strict=True)]
            for module, given in all_of_x.items()
        }
    except _Indivisible:
        return None


def _place(four: Any, two: Any) -> Place | None:
    if not isinstance(four, Tensor) or four is UNREAD:
        return None
    if four.shape == two.shape and _close(four, two):
        return Place(0, 0)
    for dim, rows in enumerate(two.shape):
        doubled = (*two.shape[:dim], 2 * rows, *two.shape[dim + 1 :])
        if four.shape == doubled and rows % 2 == 0 and _close(four.narrow(dim, rows, rows), two):
            return Place(dim, rows // 2)
    raise _Indivisible


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a.double(), b.double(), rtol=1e-3, atol=1e-3 * float(b.abs().max()), equal_nan=True)


def select(parts: Sequence[tuple[Results, Tensor]], layout: Layout) -> Results:
    """The results for some of the inputs, given the rows wanted of each part."""

    def pick(place: Place | None, *tensors: Any) -> Any:
        if place is None or place.rows == 0:
            return tensors[0]
        chosen = [
            tensor.unflatten(place.dim, (-1, place.rows)).index_select(place.dim, rows.to(tensor.device))
            for tensor, (_, rows) in zip(tensors, parts, strict=True)
        ]
        return torch.cat(chosen, place.dim).flatten(place.dim, place.dim + 1)

    return {
        module: [tree_map(pick, *same) for same in zip(places, *(part[module] for part, _ in parts), strict=True)]
        for module, places in layout.items()
    }


def run(network: nn.Module, x: Tensor, results: Results) -> Tensor:
    """The network's output, with the results of a `record` in place of what was run there."""
    with replaying(results, copy=True):
        output: Tensor = network(x)
    return output


def size(results: Results) -> int:
    """Bytes of the kept tensors."""
    leaves = {leaf.data_ptr(): leaf for leaf in tree_leaves(list(results.values())) if isinstance(leaf, Tensor)}
    return sum(leaf.numel() * leaf.element_size() for leaf in leaves.values())


def run_until(network: nn.Module, layer: Collection[nn.Module], x: Tensor, before: Results) -> Results:
    """Runs the network up to `layer`; the results of the outermost modules that ended by then."""
    ended: list[list[tuple[nn.Module, Any]]] = [[]]  # a list per module that has started and not ended

    def start(module: nn.Module, _: Any) -> None:
        if module in layer:
            raise _Reached
        ended.append([])

    def end(module: nn.Module, _: Any, result: Any) -> None:
        ended.pop()
        ended[-1].append((module, result))

    handles = []
    try:
        for module in network.modules():
            handles.append(module.register_forward_pre_hook(start))
            handles.append(module.register_forward_hook(end))
        with replaying(before, copy=False):
            network(x)
    except _Reached:
        pass
    finally:
        for handle in handles:
            handle.remove()
    results: Results = {}
    for module, result in (call for calls in ended for call in calls):
        results.setdefault(module, []).append(result)
    return results


@contextmanager
def replaying(results: Results, copy: bool) -> Iterator[None]:
    """Lets each module's first calls give these results; copies, where the caller may write into them."""
    own = {module: vars(module).get("forward") for module in results}
    try:
        for module, given in results.items():
            module.forward = _replay(module.forward, iter(given), copy)
        yield
    finally:
        for module, forward in own.items():
            if forward is None:
                vars(module).pop("forward", None)
            else:
                module.forward = forward


def _replay(forward: Any, given: Iterator[Any], copy: bool) -> Any:
    def replay(*args: Any, **kwargs: Any) -> Any:
        for result in given:
            return tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, result) if copy else result
        return forward(*args, **kwargs)

    return replay


class _Reached(Exception):
    pass


class _Indivisible(Exception):
    pass


class _Watched(Tensor):
    """A tensor that notes when an operation reads it; modules that pass it on unread leave no note."""

    _reads: Reads
    _call: tuple[nn.Module, int]

    @staticmethod
    def around(tensor: Tensor, reads: Reads, call: tuple[nn.Module, int]) -> _Watched:
        watched = tensor.clone().as_subclass(_Watched)
        watched._reads, watched._call = reads, call
        return watched

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def unwrap(leaf: Any) -> Any:
            if not isinstance(leaf, _Watched):
                return leaf
            if (read := vars(leaf).get("_reads")) is not None:
                read.add(leaf._call)
            with torch._C.DisableTorchFunctionSubclass():
                return leaf.as_subclass(Tensor)

        args, kwargs = tree_map(unwrap, (args, kwargs or {}))
        return function(*args, **kwargs)
