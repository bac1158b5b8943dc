"""A heat map of layers and epochs above a curve over the same epochs, drawn with matplotlib."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

NAMED_ROWS = 60  # more layers than that: only some get their name
GREY, BLUE = "0.55", "#1f5fa8"

Values = NDArray[np.float64]


def frame(rows: int, title: str) -> tuple[Figure, Axes, Axes]:
    """A heat map with room for so many rows, above a curve over the same epochs."""
    height = 2.2 + min(0.16 * max(rows, 8), 8.0)
    figure = Figure(figsize=(7.2, height), layout="constrained")
    grid: Any = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [height - 1.8, 1.1]})
    heat, below = grid
    heat.set_title(title, fontsize=9, pad=14)
    below.set_xlabel("epoch", fontsize=8)
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (heat, below):
        axes.tick_params(labelsize=8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    below.grid(axis="y", color="0.9")
    return figure, heat, below


def heat_map(
    figure: Figure,
    axes: Axes,
    columns: Sequence[int],
    layers: Sequence[str],
    values: Values,
    colors: str,
    limits: tuple[float, float],
    label: str,
) -> None:
    """A row per layer, input layers at the top, and a column per epoch."""
    edges = [columns[0] - 0.5, *(column + 0.5 for column in columns)]
    mesh = axes.pcolormesh(
        edges, np.arange(len(layers) + 1) - 0.5, values, cmap=colors, vmin=limits[0], vmax=limits[1], rasterized=True
    )
    axes.invert_yaxis()
    step = math.ceil(len(layers) / NAMED_ROWS)
    axes.set_yticks(range(0, len(layers), step), layers[::step], fontsize=max(4.5, min(8.0, 300 / len(layers))))
    axes.set_ylabel("layer, from input to output" + (f" (every {step}th named)" if step > 1 else ""), fontsize=8)
    bar: Any = figure.colorbar(mesh, ax=axes, pad=0.02, aspect=25)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)


def mean_below(axes: Axes, columns: Sequence[int], values: Values, label: str) -> None:
    """The mean over the layers, between the lowest and the highest tenth of them."""
    low, high = np.nanquantile(values, [0.1, 0.9], axis=0)
    axes.fill_between(columns, low, high, color=BLUE, alpha=0.18, linewidth=0, label="80 % of the layers")
    axes.plot(columns, np.nanmean(values, axis=0), color=BLUE, label="mean")
    axes.set_ylabel(label, fontsize=8)
    legend(axes)


def legend(axes: Axes) -> None:
    """To the right, below the colour bar."""
    axes.legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.05), handlelength=1.2)


def mark_change_over(heat: Axes, below: Axes, change_over: int | None, columns: Sequence[int]) -> None:
    """A line before the first epoch that ended in low rank."""
    if change_over is None or not columns[0] < change_over <= columns[-1]:
        return
    for axes in (heat, below):
        axes.axvline(change_over - 0.5, color="white", linewidth=1.6)
        axes.axvline(change_over - 0.5, color="0.15", linewidth=0.9, linestyle=(0, (4, 3)))
    heat.annotate(
        "change-over", (change_over - 0.5, 1), xycoords=heat.get_xaxis_transform(), xytext=(0, 3),
        textcoords="offset points", fontsize=7, ha="center", color="0.15",
    )  # fmt: skip
