"""What a probe sees of a dense training."""

from collections.abc import Sequence
from dataclasses import dataclass

SETTLED = 0.95
"""Stability from which on a layer's bases count as settled."""
SHARE = 0.25
"""Of a run, so much is trained."""
TOLERANCE = 0.1
"""Of the utilized rank, in percent of validation accuracy per projection."""


@dataclass(frozen=True)
class Layer:
    """What a probe saw of one layer that OIALR would convert.

    Attributes:
        settled: share of the run after which its bases had settled; None: not within the probe.
        max_rank: min(m, n).
        utilized_rank: None where the task gives no validation images to find it with.
        cutoff: the largest β that keeps this rank in one cut, in (0, 1].
    """

    name: str
    settled: float | None
    max_rank: int
    utilized_rank: int | None = None
    cutoff: float | None = None


@dataclass(frozen=True)
class Observation:
    """What a probe saw, and what it cost: `share` of a run, and in all `seconds`, of which `training_seconds` so."""

    layers: list[Layer]
    share: float
    epochs: int
    seconds: float
    training_seconds: float
    accuracy: float | None = None
    mlu: float | None = None


def settling(stability: Sequence[tuple[int, float]], epochs: int) -> float | None:
    """Share of the run from which on all of a layer's (epoch, stability) reach SETTLED; None: its last one does not."""
    settled = None
    for epoch, value in stability:
        if value < SETTLED:
            settled = None
        elif settled is None:
            settled = epoch / epochs
    return settled
