"""The utilization snapshot of a network: maximum, original and utilized rank of every layer (paper, Figure 2)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from oialr_hpo.utilization.found import Utilization
from oialr_hpo.utilization.published import Published

NAMED_LAYERS = 60  # more layers than that: only some get their name
GREY, BLUE = "0.55", "#1f5fa8"


def snapshot(found: Utilization, title: str, paper: Published | None = None) -> Figure:
    """Three curves over the layers from input to output; the title's second line compares with the paper's row."""
    layers = found.layers
    figure = Figure(figsize=(max(6.4, min(0.16 * len(layers) + 3, 14)), 4.2), layout="constrained")
    axes: Any = figure.subplots()
    places = range(1, len(layers) + 1)
    highest = [layer.max_rank for layer in layers]
    axes.fill_between(places, highest, step="mid", color="0.93", linewidth=0, label="highest possible")
    axes.plot(
        places, [layer.original_rank for layer in layers], color=GREY, linestyle=(0, (1, 1.2)), marker="o",
        markersize=2.5, label=f"of the weights: mean {100 * found.original_mlu:.0f} %",
    )  # fmt: skip
    axes.plot(
        places, [layer.utilized_rank for layer in layers], color=BLUE, marker="o", markersize=2.5,
        label=f"utilized: mean {100 * found.mlu:.0f} %",
    )  # fmt: skip
    axes.set_ylim(0, 1.04 * max(highest))
    axes.set_xlim(0.5, len(layers) + 0.5)
    axes.set_ylabel("rank", fontsize=8)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    step = math.ceil(len(layers) / NAMED_LAYERS)
    axes.set_xticks(places[::step], [layer.name for layer in layers[::step]], rotation=90, fontsize=6.5)
    axes.set_xlabel("layer, from input to output", fontsize=8)
    axes.tick_params(axis="y", labelsize=8)
    axes.grid(axis="y", color="0.9")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False, fontsize=7, ncols=3, loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.1)
    line = f"\npaper: mean of the weights {paper.original_mlu:.0f} %, utilized {paper.mlu:.0f} %" if paper else ""
    axes.set_title(f"{title}{line}", fontsize=9, loc="left", pad=22)
    return figure


def save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=200)
