"""The utilization snapshot of a network: maximum, original and utilized rank of every layer (paper, Figure 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from oialr_hpo.utilization.found import LayerUtilization, mean_original_utilization, mean_utilization
from oialr_hpo.utilization.kept import Kept
from oialr_hpo.utilization.published import Published

NAMED_LAYERS = 60  # more layers than that: only some get their name
GREY, BLUE = "0.55", "#1f5fa8"
COLORS = (BLUE, "#e07b1a", "#2a8c5a", "#7d3c98", "#c0392b", "#8a9099", "#d8a400", "#30343a")
STYLES: tuple[Any, ...] = ("-", (0, (4, 2)), (0, (1, 1.2)), (0, (4, 1.5, 1, 1.5)))
"""Of the members of a family."""
COLUMNS = 3


def snapshot(layers: Sequence[LayerUtilization], title: str, paper: Published | None = None) -> Figure:
    """Three curves over the layers from input to output; the title's second line compares with the paper's row."""
    figure = Figure(figsize=(max(6.4, min(0.16 * len(layers) + 3, 14)), 4.2), layout="constrained")
    axes: Any = figure.subplots()
    draw_ranks(axes, layers)
    step = math.ceil(len(layers) / NAMED_LAYERS)
    names = [layer.name for layer in layers[::step]]
    axes.set_xticks(range(1, len(layers) + 1, step), names, rotation=90, fontsize=6.5)
    axes.set_xlabel("layer, from input to output", fontsize=8)
    axes.legend(frameon=False, fontsize=7, ncols=3, loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.1)
    lines = [title, _means(layers)]
    if paper:
        lines.append(f"paper: {_in_percent(paper.original_mlu, paper.mlu)}")
    axes.set_title("\n".join(lines), fontsize=9, loc="left", pad=22)
    return figure


def snapshots(results: Sequence[Kept]) -> Figure:
    """Those of several networks, data sets or pretrainings, side by side; below them the utilization of all."""
    rows = math.ceil(len(results) / COLUMNS)
    columns = math.ceil(len(results) / rows)
    figure = Figure(figsize=(4.4 * max(2, columns), 3.4 * rows + 3.2), layout="constrained")
    grid, labels = figure.add_gridspec(rows + 1, columns), distinct_labels(results)
    together: Any = figure.add_subplot(grid[rows, :])
    members: dict[str | None, int] = {}
    for place, (result, label) in enumerate(zip(results, labels, strict=True)):
        axes: Any = figure.add_subplot(grid[place // columns, place % columns])
        draw_ranks(axes, result.layers)
        axes.set_title(f"{label}\n{_sizes(result)}\n{_means(result.layers)}", fontsize=8, loc="left")
        family = f"{result.network or result.name}, {result.dataset}"
        color = COLORS[list(members | {family: 0}).index(family) % len(COLORS)]
        members[family] = members.get(family, 0) + 1
        utilized = [100 * layer.utilization for layer in result.layers]
        depth = [100 * number / max(1, len(utilized) - 1) for number in range(len(utilized))]
        look = {
            "color": color,
            "linestyle": STYLES[members[family] % len(STYLES) - 1],
            "marker": "o",
            "markersize": 2.5,
        }
        text = f"{label}: mean {100 * mean_utilization(result.layers):.0f} %"
        together.plot(depth, utilized, label=text, **look)
    figure.legend(*axes.get_legend_handles_labels(), frameon=False, fontsize=8, ncols=3, loc="outside upper left")
    _plain(together)
    together.set_ylim(0, 104)
    together.set_ylabel("utilized rank,\n% of the highest", fontsize=8)
    together.set_xlabel("depth, from input to output, %", fontsize=8)
    together.legend(frameon=False, fontsize=7, ncols=columns, loc="upper left", bbox_to_anchor=(0.0, -0.18))
    return figure


def draw_ranks(axes: Axes, layers: Sequence[LayerUtilization]) -> None:
    """The highest possible, the weights' own and the utilized rank of each layer."""
    places, highest = range(1, len(layers) + 1), [layer.max_rank for layer in layers]
    axes.fill_between(places, highest, step="mid", color="0.93", linewidth=0, label="highest possible")
    axes.plot(
        places, [layer.original_rank for layer in layers], color=GREY, linestyle=(0, (1, 1.2)), marker="o",
        markersize=2.5, label="of the weights",
    )  # fmt: skip
    axes.plot(
        places, [layer.utilized_rank for layer in layers], color=BLUE, marker="o", markersize=2.5,
        label="utilized",
    )  # fmt: skip
    axes.set_ylim(0, 1.04 * max(highest))
    axes.set_xlim(0.5, len(layers) + 0.5)
    axes.set_ylabel("rank", fontsize=8)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("layer", fontsize=8)
    _plain(axes)


def distinct_labels(results: Sequence[Kept]) -> list[str]:
    """What they are of, or where this does not tell them apart the names of their directories."""
    labels = [result.label for result in results]
    return labels if len({*labels}) == len(labels) else [f"{each.name} ({each.label})" for each in results]


def save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=200)


def _plain(axes: Axes) -> None:
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", color="0.9")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _sizes(result: Kept) -> str:
    """Parameters and accuracy, before and after."""
    after = f"{100 * result.parameters_ratio:.0f} % left"
    if result.parameters is not None:
        after = f"{in_words(result.parameters)} to {in_words(result.parameters * result.parameters_ratio)}"
    reached = "" if result.reached is None else f"; accuracy {result.original_accuracy:.1f} to {result.reached:.1f} %"
    return f"parameters {after}{reached}"


def _means(layers: Sequence[LayerUtilization]) -> str:
    return _in_percent(100 * mean_original_utilization(layers), 100 * mean_utilization(layers))


def _in_percent(original: float, utilized: float) -> str:
    return f"mean of the weights {original:.0f} %, utilized {utilized:.0f} %"


def in_words(number: float) -> str:
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"
