"""Layers more closely, as in the paper's Figure 1: energy of W and W', and accuracy over the dimensions kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from oialr_hpo.utilization.found import LayerCurves, LayerUtilization

COLORS = ("#1f5fa8", "#e07b1a", "#2a8c5a", "#7d3c98", "#c0392b", "#8a9099")
DOTTED = (0, (1, 1.2))


def layer_figure(
    curves: Sequence[LayerCurves], layers: Sequence[LayerUtilization], accuracy: float, tolerance: float, title: str
) -> Figure:
    """Three panels, a color per layer.

    Args:
        layers: of the analysis, which the curves' are among.
        accuracy: of the network as it is, in percent.
        tolerance: of the analysis, likewise.
    """
    found = {layer.name: layer for layer in layers}
    figure = Figure(figsize=(12, 4.4), layout="constrained")
    panels: Any = figure.subplots(1, 3)
    energy, inputs, outputs = panels
    for place, curve in enumerate(curves):
        layer, color = found[curve.name], COLORS[place % len(COLORS)]
        shares = [100 * k / layer.max_rank for k in range(layer.max_rank + 1)]
        before, after = ([0.0, *(100 * share for share in each)] for each in (curve.energy, curve.projected_energy))
        energy.plot(shares, before, color=color, linestyle=DOTTED)
        energy.plot(shares, after, color=color, label=curve.name)
        at = layer.utilized_rank
        _mark(energy, shares[at], after[at], color, f"rank {at} of {layer.max_rank}")
        m, d = layer.shape
        for axes, points, size, k, name in (
            (inputs, curve.onto_inputs, d, layer.k_s, "k_S"),
            (outputs, curve.onto_outputs, m, layer.k_t, "k_T"),
        ):
            axes.plot([100 * kept / size for kept, _ in points], [reached for _, reached in points], color=color)
            _mark(axes, 100 * k / size, dict(points)[k], color, f"{name} = {k} of {size}")
    energy.set_title("energy of W (dotted) and W'", fontsize=9, loc="left")
    energy.set_xlabel("singular values, % of the highest rank", fontsize=8)
    energy.set_ylabel("share of the energy, %", fontsize=8)
    for axes, subspace, sides in ((inputs, "S", "inputs"), (outputs, "T", "outputs")):
        axes.axhspan(accuracy - tolerance, accuracy, color="0.85", linewidth=0, label=f"tolerance {tolerance:g} %")
        axes.set_title(f"accuracy of the network, this layer projected onto {subspace}", fontsize=9, loc="left")
        axes.set_xlabel(f"dimensions of the {sides} that are kept, %", fontsize=8)
        axes.set_ylabel("accuracy, %", fontsize=8)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    for axes in panels:
        axes.tick_params(labelsize=8)
        axes.grid(color="0.92")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        axes.legend(frameon=False, fontsize=7, loc="lower right")
    figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    return figure


def _mark(axes: Axes, x: float, y: float, color: str, label: str) -> None:
    """Where the analysis ended."""
    axes.plot([x], [y], linestyle="", marker="o", markersize=5, color=color, label=label)
