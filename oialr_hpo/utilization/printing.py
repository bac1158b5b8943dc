"""What is printed and kept of an analysis: a row per layer, a line beside the paper's, and all of it as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from oialr_hpo.runs.printing import table
from oialr_hpo.utilization.found import LayerCurves, Utilization
from oialr_hpo.utilization.published import Published
from oialr_hpo.utilization.reduction import Reduction


def layer_table(found: Utilization) -> str:
    header = ["layer", "m x d", "k_S", "k_T", "highest", "original", "utilized", "utilization %"]
    rows = [
        [
            layer.name, f"{layer.shape[0]} x {layer.shape[1]}", layer.k_s, layer.k_t, layer.max_rank,
            layer.original_rank, layer.utilized_rank, round(100 * layer.utilization),
        ]
        for layer in found.layers
    ]  # fmt: skip
    left = [f"not analysed: {name} ({reason})" for name, reason in found.skipped.items()]
    return "\n".join([table(header, rows), *left])


def summary(found: Utilization, reduction: Reduction, paper: Published | None) -> str:
    header = ["", "accuracy", "projected", "fine-tuned", "MLU % of W", "MLU %", "params ratio", "FLOPs ratio"]
    here: list[Any] = ["here", found.original_accuracy, found.accuracy, reduction.finetuned]
    rows = [[*here, 100 * found.original_mlu, 100 * found.mlu, reduction.parameters, reduction.flops]]
    if paper:
        before, after = paper.original_accuracy, paper.accuracy
        rows.append(["paper", before, None, after, paper.original_mlu, paper.mlu, paper.parameters, paper.flops])
    return table(header, rows)


def as_json(found: Utilization, reduction: Reduction, curves: Sequence[LayerCurves] = ()) -> dict[str, Any]:
    """What `utilization.json` holds: accuracies in percent, utilizations in [0, 1], ratios to the original."""
    return {
        "layers": [asdict(layer) | {"utilization": layer.utilization} for layer in found.layers],
        "curves": [asdict(curve) for curve in curves],
        "skipped": found.skipped,
        "mlu": found.mlu,
        "original_mlu": found.original_mlu,
        "original_accuracy": found.original_accuracy,
        "accuracy": found.accuracy,
        "finetuned_accuracy": reduction.finetuned,
        "parameters_ratio": reduction.parameters,
        "flops_ratio": reduction.flops,
        "passes": found.passes,
        "plain_passes": found.plain_passes,
        "seconds": found.seconds,
    }
