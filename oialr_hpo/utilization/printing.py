"""What is printed of an analysis: a row per layer, a line beside the paper's."""

from __future__ import annotations

from typing import Any

from oialr_hpo.runs.printing import table
from oialr_hpo.utilization.found import Utilization
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
