"""The utilized rank of every layer (Revealing the Utilized Rank of Subspaces of Learning, arXiv:2407.04797)."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from oialr_hpo.oialr.distributed import unwrapped
from oialr_hpo.utilization.accuracy import Accuracy
from oialr_hpo.utilization.batches import rereadable
from oialr_hpo.utilization.bisection import Judge, dimensions
from oialr_hpo.utilization.found import LayerUtilization, Utilization
from oialr_hpo.utilization.full_passes import FullPasses
from oialr_hpo.utilization.gram import ordinary_attention
from oialr_hpo.utilization.gram_passes import gram_passes
from oialr_hpo.utilization.layers import Layers
from oialr_hpo.utilization.partial_passes import PartialPasses
from oialr_hpo.utilization.record import Record
from oialr_hpo.utilization.subspace import Subspace, error, error_bound, output_gram, projected, rank

GRAM_BYTES = 8 * 2**30


@ordinary_attention()
def analyse(
    model: nn.Module,
    loader: Iterable[Any],
    evaluate: Callable[[nn.Module], float],
    tolerance: float = 0.1,
    *,
    keep_projected: bool = True,
    state: Path | None = None,
    progress: Callable[[str], None] = lambda line: None,
    gram_bytes: float = GRAM_BYTES,
) -> Utilization:
    """How much of each layer's space the data use.

    For each layer in the order of the forward pass the smallest k_S, then the smallest k_T, such that each projection
    costs at most `tolerance` percent of accuracy, by binary search (paper, section 2.2).

    Arguments:
        model: left as it is; its copy is projected.
        loader: batches of inputs, or of tuples that begin with them, for the Gram matrices; read once, or several times
            if these take more than `gram_bytes`. An iterator is kept as a list. Under torch.distributed each process
            reads its own share.
        evaluate: a network's validation accuracy in percent, not as a share of 1. Given `Accuracy(batches)`, the search
            finds the same with parts of validation passes; any other function is called for whole ones.
        keep_projected: layers stay projected while later ones are searched, so that the whole costs at most
            2 x tolerance x layers, as the paper states. False: each layer is searched in the original network.
        state: JSON file that every finished layer is added to, and that an interrupted analysis goes on from.
        progress: is given a line per layer, and one before each pass over `loader`.

    Raises:
        ValueError: nothing to analyse, batches or accuracies of another form, or `state` is of another analysis.
        FloatingPointError: naming a layer with NaN or infinity.
    """
    started = time.perf_counter()
    if not tolerance >= 0:
        raise ValueError(f"analyse: tolerance={tolerance} must be 0 or more, in percent of accuracy")
    network = copy.deepcopy(unwrapped(model)).eval()
    loader = rereadable(loader)
    layers = Layers.of(network, loader)
    originals = layers.originals
    judge: Judge
    if isinstance(evaluate, Accuracy):
        judge = PartialPasses(evaluate, network, layers.share_from)
    else:
        judge = FullPasses(evaluate, network)
    record = Record.open(state, originals, {"tolerance": tolerance, "keep_projected": keep_projected})

    plain = sum(math.ceil(math.log2(size)) for weight in originals.values() for size in weight.flatten(1).shape)
    accuracy = judge.original
    found: list[LayerUtilization] = []
    projections: dict[str, Tensor] = {}
    hints: dict[str, tuple[float, float]] = {}  # by kind of layer: the shares of energy that the last one needed
    for name, gram in gram_passes(network, loader, layers, gram_bytes, progress):
        layer, weight = layers.plans[name], originals[name].flatten(1)
        if not gram.any():
            layers.skipped[name] = "only zeros reach it"
            continue
        spaces = Subspace.of(gram, name), Subspace.of(output_gram(gram, weight), name)

        if name not in record.layers:
            judge.enter(name, layers.modules[name])
            before = accuracy if keep_projected else judge.original
            put, hint = partial(layers.put, name), hints.get(layer.kind)
            result = dimensions(weight, spaces, judge, before, tolerance, put, hint)
            record.add(name, *result, passes=judge.passes)
        k_s, k_t, accuracy = record.layers[name]
        e_s, e_t = hints[layer.kind] = spaces[0].share(k_s), spaces[1].share(k_t)
        projections[name] = projected(weight, spaces[0], k_s, spaces[1], k_t)
        layers.put(name, projections[name] if keep_projected else weight)
        energy = max((weight.double() @ gram * weight.double()).sum().item(), torch.finfo(torch.float64).tiny)
        found.append(
            LayerUtilization(
                name=name,
                kind=layer.kind,
                shape=layer.shape,
                rows=layers.rows[name],
                k_s=k_s,
                k_t=k_t,
                e_s=e_s,
                e_t=e_t,
                original_rank=rank(weight),
                utilized_rank=rank(projections[name]),
                error=error(gram, weight, projections[name]) / energy,
                bound=error_bound(gram, weight, e_s, e_t) / energy,
                accuracy=accuracy,
            )
        )
        progress(_line(found, len(layers), record.passes, started))

    if not found:
        raise ValueError(f"analyse: only zeros reach the layers of {type(network).__name__}; is the data right?")
    for name, matrix in projections.items():
        layers.put(name, matrix)
    return Utilization(
        layers=found,
        skipped=layers.skipped,
        original_accuracy=judge.original,
        accuracy=accuracy if keep_projected else None,
        passes=record.passes,
        plain_passes=plain,
        seconds=time.perf_counter() - started,
        model=network,
    )


def _line(found: list[LayerUtilization], layers: int, passes: float, started: float) -> str:
    layer, seconds = found[-1], time.perf_counter() - started
    left = seconds / len(found) * (layers - len(found))
    (m, d), (k_s, k_t) = layer.shape, (layer.k_s, layer.k_t)
    utilized = f"rank {layer.utilized_rank} of {layer.max_rank} ({100 * layer.utilization:.0f} %)"
    cost = f"{passes:.1f} passes, {seconds:.0f} s, about {left:.0f} s left"
    accuracy = f"accuracy {layer.accuracy:.2f} %"
    return f"{len(found)}/{layers}  {layer.name}  S {d} -> {k_s}, T {m} -> {k_t}, {utilized}, {accuracy}, {cost}"
