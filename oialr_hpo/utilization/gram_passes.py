"""The Gram matrices of all layers, as many at a time as fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor, nn

from oialr_hpo.utilization.gram import gram_matrices
from oialr_hpo.utilization.layers import Layers


def gram_passes(
    network: nn.Module, loader: Iterable[Any], layers: Layers, gram_bytes: float, progress: Callable[[str], None]
) -> Iterator[tuple[str, Tensor]]:
    """Every layer's Gram matrix in the original network, from one pass over `loader` per `gram_bytes` of them."""
    originals = layers.originals
    waiting = list(originals)
    while waiting:
        group, size = list[str](), 0.0
        while waiting and (not group or size + _size(originals[waiting[0]]) <= gram_bytes):
            size += _size(originals[waiting[0]])
            group.append(waiting.pop(0))
        progress(f"inputs of {len(group)} layers: one pass over the data, {size / 2**20:.0f} MiB of Gram matrices")
        present = {name: weight.detach().clone() for name, weight in layers.weights.items()}
        layers.put_all(originals)
        grams = gram_matrices(network, {name: layers.modules[name] for name in group}, loader)
        layers.put_all(present)
        for name in group:
            yield name, grams.pop(name)


def _size(weight: Tensor) -> int:
    return 8 * weight[0].numel() ** 2
