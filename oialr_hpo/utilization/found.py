"""What an analysis finds: of one layer, and of a network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


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


@dataclass(frozen=True)
class LayerCurves:
    """One layer more closely (paper, Figure 1).

    Attributes:
        energy, projected_energy: of the first 1, 2, ... singular values of W and of W': the share of all their squares.
        onto_inputs: k and the network's accuracy in percent, with this W alone projected onto the first k dimensions of
            its inputs' subspace, all other layers as they are.
        onto_outputs: the same of its outputs' subspace.
    """

    name: str
    energy: list[float]
    projected_energy: list[float]
    onto_inputs: list[tuple[int, float]]
    onto_outputs: list[tuple[int, float]]


def mean_utilization(layers: Iterable[LayerUtilization]) -> float:
    """MLU: the mean of their utilizations, in [0, 1]."""
    return fmean(layer.utilization for layer in layers)


def mean_original_utilization(layers: Iterable[LayerUtilization]) -> float:
    """The same of the weights as they are, blind to the data."""
    return fmean(layer.original_rank / layer.max_rank for layer in layers)


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
        return mean_utilization(self.layers)

    @property
    def original_mlu(self) -> float:
        """The same of the weights as they are, blind to the data."""
        return mean_original_utilization(self.layers)

    @property
    def ranks(self) -> dict[str, int]:
        return {layer.name: layer.utilized_rank for layer in self.layers}
