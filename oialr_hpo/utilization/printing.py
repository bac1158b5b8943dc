"""What is printed and kept of an analysis: a row per layer, a line beside the paper's, and all of it as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from oialr_hpo.runs.printing import table
from oialr_hpo.utilization.found import Utilization
from oialr_hpo.utilization.published import Published


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


def summary(found: Utilization, finetuned: float | None, size: tuple[float, float], paper: Published | None) -> str:
    header = ["", "accuracy", "projected", "fine-tuned", "MLU % of W", "MLU %", "params ratio", "FLOPs ratio"]
    here: list[Any] = ["here", found.original_accuracy, found.accuracy, finetuned]
    rows = [[*here, 100 * found.original_mlu, 100 * found.mlu, *size]]
    if paper:
        before, after = paper.original_accuracy, paper.accuracy
        rows.append(["paper", before, None, after, paper.original_mlu, paper.mlu, paper.parameters, paper.flops])
    return table(header, rows)


def as_json(found: Utilization, finetuned: float | None, size: tuple[float, float]) -> dict[str, Any]:
    """What `utilization.json` holds: accuracies in percent, utilizations and ratios in [0, 1].

    Args:
        finetuned: the accuracy after fine-tuning, where there was some.
        size: parameters and FLOPs of the factorised network over those of the original.
    """
    return {
        "layers": [asdict(layer) | {"utilization": layer.utilization} for layer in found.layers],
        "skipped": found.skipped,
        "mlu": found.mlu,
        "original_mlu": found.original_mlu,
        "original_accuracy": found.original_accuracy,
        "accuracy": found.accuracy,
        "finetuned_accuracy": finetuned,
        "parameters_ratio": size[0],
        "flops_ratio": size[1],
        "passes": found.passes,
        "plain_passes": found.plain_passes,
        "seconds": found.seconds,
    }
