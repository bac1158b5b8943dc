"""The utilized rank of every layer (Revealing the Utilized Rank of Subspaces of Learning, arXiv:2407.04797)."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from oialr_hpo.oialr import plan
from oialr_hpo.oialr.conversion import unfuse
from oialr_hpo.oialr.distributed import unwrapped
from oialr_hpo.oialr.planning import Layer
from oialr_hpo.utilization.accuracy import Accuracy, FullPasses, PartialPasses
from oialr_hpo.utilization.batches import first, rereadable
from oialr_hpo.utilization.gram import gram_matrices, ordinary_attention, rows_per_image
from oialr_hpo.utilization.record import Record
from oialr_hpo.utilization.subspace import Subspace, error, error_bound, output_gram, projected, rank

GRAM_BYTES = 8 * 2**30
ROUNDING = 1e-9


@dataclass(frozen=True)
class LayerUtilization:
    """One weight W (m x d; a convolution's kernel flattened), in the order in which data meet the layers.

    Attributes:
        name: as in `named_modules`; the two of an `nn.MultiheadAttention` are its `in_proj` and `out_proj`.
        shape: (m, d).
        rows: rows of X that one input makes: 1, tokens, or output positions.
        k_s, k_t: dimensions of the subspaces of inputs and outputs that the accuracy needs.
        e_s, e_t: their shares of the energy.
        original_rank, utilized_rank: of W and of W' = P_T W P_S, the singular values that hold 99.99 % of the energy.
        error: |Y - X W'^T|^2 / |Y|^2 over the data; `bound` is its upper bound (equation 11), likewise.
        accuracy: of the network on the validation data with this layer projected.
    """

    name: str
    kind: str
    shape: tuple[int, int]
    rows: float
    k_s: int
    k_t: int
    e_s: float
    e_t: float
    original_rank: int
    utilized_rank: int
    error: float
    bound: float
    accuracy: float

    @property
    def max_rank(self) -> int:
        return min(self.shape)

    @property
    def utilization(self) -> float:
        """Utilized rank over the highest possible one, in [0, 1]."""
        return self.utilized_rank / self.max_rank


@dataclass
class Utilization:
    """What `analyse` found.

    Attributes:
        layers: Linear and Conv layers in the order in which data meet them.
        skipped: the other weight matrices, each with the reason.
        original_accuracy: in percent.
        accuracy: with every layer projected, before any fine-tuning, where layers stay projected; else None.
        passes: validation passes, in units of one over all images and all layers.
        plain_passes: what a plain binary search takes, the sum of log2 d + log2 m.
        model: a copy of the network with every W' in place.
    """

    layers: list[LayerUtilization]
    skipped: dict[str, str]
    original_accuracy: float
    accuracy: float | None
    passes: float
    plain_passes: int
    seconds: float
    model: nn.Module = field(repr=False)

    @property
    def mlu(self) -> float:
        """Mean layer utilization, in [0, 1]."""
        return fmean(layer.utilization for layer in self.layers)

    @property
    def original_mlu(self) -> float:
        """The same of the weights as they are, blind to the data."""
        return fmean(layer.original_rank / layer.max_rank for layer in self.layers)

    @property
    def ranks(self) -> dict[str, int]:
        return {layer.name: layer.utilized_rank for layer in self.layers}


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
    report = plan(network)
    chosen = [layer for layer in report if layer.reason in ("", "frozen") and _rows_are_known(network, layer)]
    skipped = {layer.name: layer.reason or f"{layer.kind} is not analysed" for layer in report if layer not in chosen}
    if not chosen:
        raise ValueError(f"analyse: {type(network).__name__} has no Linear or Conv layer")
    unfuse(network, chosen)
    modules = {layer.name: [network.get_submodule(name) for name in layer.users] for layer in chosen}
    loader = rereadable(loader)
    rows = rows_per_image(network, modules, first(loader))
    skipped |= {name: "no data reach it" for name in modules if name not in rows}
    layers = {layer.name: layer for layer in chosen if layer.name in rows}
    order = [name for name in rows if name in layers]
    if not order:
        raise ValueError(f"analyse: {type(network).__name__} has no Linear or Conv layer that its data reach")
    modules = {name: modules[name] for name in order}
    weights = {name: modules[name][0].get_parameter("weight") for name in order}
    originals = {name: weight.detach().clone() for name, weight in weights.items()}

    work = {name: rows[name] * weights[name].numel() for name in order}
    share_from = {name: sum(work[later] for later in order[at:]) / sum(work.values()) for at, name in enumerate(order)}
    judge: FullPasses | PartialPasses
    if isinstance(evaluate, Accuracy):
        judge = PartialPasses(evaluate, network, share_from)
    else:
        judge = FullPasses(evaluate, network)
    record = Record.open(state, originals, {"tolerance": tolerance, "keep_projected": keep_projected})

    plain = sum(math.ceil(math.log2(size)) for weight in originals.values() for size in weight.flatten(1).shape)
    accuracy = judge.original
    found: list[LayerUtilization] = []
    projections: dict[str, Tensor] = {}
    hints: dict[str, tuple[float, float]] = {}  # by kind of layer: the shares of energy that the last one needed
    for name, gram in _grams(network, loader, modules, weights, originals, gram_bytes, progress):
        layer, weight = layers[name], originals[name].flatten(1)
        if not gram.any():
            skipped[name] = "only zeros reach it"
            continue
        spaces = Subspace.of(gram, name), Subspace.of(output_gram(gram, weight), name)

        def put(matrix: Tensor, name: str = name) -> None:
            weights[name].data.copy_(matrix.view_as(weights[name]))

        if name not in record.layers:
            judge.enter(name, modules[name])
            before = accuracy if keep_projected else judge.original
            result = _search(weight, spaces, judge, before, tolerance, put, hints.get(layer.kind))
            record.add(name, *result, passes=judge.passes)
        k_s, k_t, accuracy = record.layers[name]
        e_s, e_t = hints[layer.kind] = spaces[0].share(k_s), spaces[1].share(k_t)
        projections[name] = projected(weight, spaces[0], k_s, spaces[1], k_t)
        put(projections[name] if keep_projected else weight)
        energy = max((weight.double() @ gram * weight.double()).sum().item(), torch.finfo(torch.float64).tiny)
        found.append(
            LayerUtilization(
                name=name,
                kind=layer.kind,
                shape=layer.shape,
                rows=rows[name],
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
        progress(_line(found, len(order), record.passes, started))

    if not found:
        raise ValueError(f"analyse: only zeros reach the layers of {type(network).__name__}; is the data right?")
    for name, matrix in projections.items():
        weights[name].data.copy_(matrix.view_as(weights[name]))
    return Utilization(
        layers=found,
        skipped=skipped,
        original_accuracy=judge.original,
        accuracy=accuracy if keep_projected else None,
        passes=record.passes,
        plain_passes=plain,
        seconds=time.perf_counter() - started,
        model=network,
    )


def _rows_are_known(network: nn.Module, layer: Layer) -> bool:
    owner = network.get_submodule(layer.parameter.rpartition(".")[0])
    return isinstance(owner, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.MultiheadAttention))


def _search(
    weight: Tensor,
    spaces: tuple[Subspace, Subspace],
    judge: FullPasses | PartialPasses,
    accuracy: float,
    tolerance: float,
    put: Callable[[Tensor], None],
    hint: tuple[float, float] | None,
) -> tuple[int, int, float]:
    """k_S, k_T and the accuracy with both projections; leaves the projected weight in place."""
    inputs, outputs = spaces
    guesses = (inputs.dimension(hint[0]), outputs.dimension(hint[1])) if hint else (None, None)
    onto_inputs = inputs.projections(weight.t())
    k_s, accuracy = _dimension(
        lambda k: put(onto_inputs(k).t()), weight.shape[1], judge, accuracy, tolerance, guesses[0]
    )
    onto_outputs = outputs.projections(onto_inputs(k_s).t())
    k_t, accuracy = _dimension(lambda k: put(onto_outputs(k)), weight.shape[0], judge, accuracy, tolerance, guesses[1])
    return k_s, k_t, accuracy


def _dimension(
    project: Callable[[int], None],
    size: int,
    judge: FullPasses | PartialPasses,
    accuracy: float,
    tolerance: float,
    guess: int | None,
) -> tuple[int, float]:
    """The smallest k whose projection costs at most the tolerance, left in place, and the accuracy with it."""
    floor, measured = accuracy - tolerance, dict[int, float]()

    def holds(k: int) -> bool:
        project(k)
        measured[k] = judge.accuracy(floor)
        return measured[k] >= floor - ROUNDING

    k = smallest(holds, size, guess)
    project(k)
    return k, judge.settled(measured[k]) if k < size else accuracy


def smallest(holds: Callable[[int], bool], size: int, guess: int | None = None) -> int:
    """The smallest k in 1..size that holds, by bisection; `size` itself holds.

    What holds for k is taken to hold above it. With a guess, its surroundings are tried first, where that saves tests;
    inside them bisection goes the way it would go without.
    """
    fails, works = 0, size
    if guess is not None and guess < size:
        above, below = 2 * guess, 2 * guess - size
        if 4 * above <= size:
            fails, works = (fails, above) if holds(above) else (above, works)
        elif 4 * below >= 3 * size:
            fails, works = (below, works) if not holds(below) else (fails, below)
    low, high = 1, size
    while low < high:
        middle = (low + high) // 2
        if middle >= works or (middle > fails and holds(middle)):
            high = middle
        else:
            low = middle + 1
    return low


def _grams(
    network: nn.Module,
    loader: Iterable[Any],
    modules: dict[str, list[nn.Module]],
    weights: dict[str, nn.Parameter],
    originals: dict[str, Tensor],
    gram_bytes: float,
    progress: Callable[[str], None],
) -> Iterator[tuple[str, Tensor]]:
    """Every layer's Gram matrix in the original network, from one pass per `gram_bytes` of them."""
    waiting = list(modules)
    while waiting:
        group, size = list[str](), 0.0
        while waiting and (not group or size + _gram_size(originals[waiting[0]]) <= gram_bytes):
            size += _gram_size(originals[waiting[0]])
            group.append(waiting.pop(0))
        progress(f"inputs of {len(group)} layers: one pass over the data, {size / 2**20:.0f} MiB of Gram matrices")
        present = {name: weight.detach().clone() for name, weight in weights.items()}
        _put_all(weights, originals)
        grams = gram_matrices(network, {name: modules[name] for name in group}, loader)
        _put_all(weights, present)
        for name in group:
            yield name, grams.pop(name)


def _gram_size(weight: Tensor) -> int:
    return 8 * weight[0].numel() ** 2


def _put_all(weights: dict[str, nn.Parameter], values: dict[str, Tensor]) -> None:
    for name, weight in weights.items():
        weight.data.copy_(values[name])


def _line(found: list[LayerUtilization], layers: int, passes: float, started: float) -> str:
    layer, seconds = found[-1], time.perf_counter() - started
    left = seconds / len(found) * (layers - len(found))
    (m, d), (k_s, k_t) = layer.shape, (layer.k_s, layer.k_t)
    utilized = f"rank {layer.utilized_rank} of {layer.max_rank} ({100 * layer.utilization:.0f} %)"
    cost = f"{passes:.1f} passes, {seconds:.0f} s, about {left:.0f} s left"
    accuracy = f"accuracy {layer.accuracy:.2f} %"
    return f"{len(found)}/{layers}  {layer.name}  S {d} -> {k_s}, T {m} -> {k_t}, {utilized}, {accuracy}, {cost}"
