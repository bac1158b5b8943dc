"""What is kept of an analysis, `utilization.json`: read without torch, also that of an older version."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oialr_hpo.mistake import Mistake
from oialr_hpo.utilization.found import LayerCurves, LayerUtilization, Utilization

if TYPE_CHECKING:
    from oialr_hpo.utilization.reduction import Reduction

FILE, SWEEP = "utilization.json", "sweep.json"
"""Of an analysis; of a family of them, each in a directory below."""


@dataclass(frozen=True)
class Kept:
    """An analysis and what the network was cut down to.

    Attributes:
        name: of its directory.
        network, dataset, tolerance: what was analysed, and with how many percent of accuracy per projection; None in
            files of older versions, as `parameters` and `flops`.
        original_accuracy, accuracy, finetuned_accuracy: percent; see `Utilization` and `Reduction`.
        parameters, flops: of the network as it was, a forward pass of one input.
        parameters_ratio, flops_ratio: what is left of them.
    """

    name: str
    layers: list[LayerUtilization]
    original_accuracy: float
    accuracy: float | None
    finetuned_accuracy: float | None
    parameters_ratio: float
    flops_ratio: float
    network: str | None = None
    dataset: str | None = None
    tolerance: float | None = None
    parameters: int | None = None
    flops: int | None = None

    @property
    def reached(self) -> float | None:
        """The accuracy that counts: after fine-tuning, or where there was none with all layers projected."""
        return self.accuracy if self.finetuned_accuracy is None else self.finetuned_accuracy

    @property
    def label(self) -> str:
        told = [self.network or self.name, self.dataset, None if self.tolerance is None else f"{self.tolerance:g} %"]
        return ", ".join(part for part in told if part)


def content(
    found: Utilization, reduction: Reduction, curves: Sequence[LayerCurves] = (), **about: Any
) -> dict[str, Any]:
    """What the file holds: accuracies in percent, utilizations in [0, 1], ratios to the original.

    Args:
        about: what was analysed, such as network, dataset and tolerance.
    """
    return {
        **about,
        "layers": [asdict(layer) | {"utilization": layer.utilization} for layer in found.layers],
        "curves": [asdict(curve) for curve in curves],
        "skipped": found.skipped,
        "mlu": found.mlu,
        "original_mlu": found.original_mlu,
        "original_accuracy": found.original_accuracy,
        "accuracy": found.accuracy,
        "finetuned_accuracy": reduction.finetuned,
        "parameters": reduction.original_parameters,
        "flops": reduction.original_flops,
        "parameters_ratio": reduction.parameters,
        "flops_ratio": reduction.flops,
        "passes": found.passes,
        "plain_passes": found.plain_passes,
        "seconds": found.seconds,
    }


def holds_analyses(directory: Path) -> bool:
    """Whether it is what `oialr_hpo.utilization` has written: of an analysis, or of a sweep over several."""
    return (directory / FILE).exists() or (directory / SWEEP).exists()


def read_all(directory: Path) -> list[Kept]:
    """That of an analysis, or those of a sweep, by the names of their directories.

    Raises:
        Mistake: there is none, or one is damaged.
    """
    ended = [file.parent for file in sorted(directory.glob(f"*/{FILE}"))] if (directory / SWEEP).exists() else []
    return [read(place) for place in ended or [directory]]


def read(directory: Path) -> Kept:
    """What a directory holds of an analysis.

    Raises:
        Mistake: it is none, or damaged.
    """
    file = directory / FILE
    try:
        told = json.loads(file.read_bytes())
        layers = [_layer(each) for each in told["layers"]]
        known = {each.name: told[each.name] for each in fields(Kept) if each.name in told}
        kept = Kept(**known | {"name": directory.resolve().name, "layers": layers})
        if not layers or not all(isinstance(part, (int, float)) for part in _numbers(kept)):
            raise ValueError
        return kept
    except FileNotFoundError:
        raise Mistake(f"{directory} holds no analysis: there is no {file}; run oialr_hpo.utilization first") from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise Mistake(f"{file} is damaged; run the analysis again, which goes on from {directory}") from None


def _layer(told: Mapping[str, Any]) -> LayerUtilization:
    layer = LayerUtilization(**{each.name: told[each.name] for each in fields(LayerUtilization)})
    ranks = (*layer.shape, layer.original_rank, layer.utilized_rank)
    if not all(isinstance(part, int) and part >= 0 for part in ranks) or not min(layer.shape):
        raise ValueError
    return layer


def _numbers(kept: Kept) -> list[Any]:
    optional = (kept.accuracy, kept.finetuned_accuracy, kept.tolerance, kept.parameters, kept.flops)
    always = [kept.original_accuracy, kept.parameters_ratio, kept.flops_ratio]
    return always + [part for part in optional if part is not None]
