"""Accuracy against parameters before and after, bubbles as large as the FLOPs (paper, Figure 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from oialr_hpo.utilization.kept import Kept
from oialr_hpo.utilization.published import published_at
from oialr_hpo.utilization.snapshot import COLORS, in_words

LARGEST = 900.0
"""The area of the largest bubble, in square points."""


def bubbles(results: Sequence[Kept]) -> Figure | None:
    """Networks, a color each, cut down at one tolerance or several; the paper's rows beside those that it has.

    Returns:
        None where no file says how large its network was, as those of older versions, or how accurate it is at the end.
    """
    shown = [each for each in results if each.parameters and each.flops and each.reached is not None]
    if not shown:
        return None
    families: dict[str, list[Kept]] = {}
    for each in sorted(shown, key=lambda each: each.tolerance or 0.0):
        families.setdefault(", ".join(part for part in (each.network or each.name, each.dataset) if part), []).append(
            each
        )
    figure = Figure(figsize=(11.5, 4.8), layout="constrained")
    panels: Any = figure.subplots(1, 2)
    handles = []
    for (name, family), color in zip(families.items(), COLORS * len(families), strict=False):
        _sizes(panels[0], family, color, max(each.flops or 0 for each in shown))
        _changes(panels[1], family, color)
        before = family[0].parameters or 0
        after = " or ".join(in_words(before * each.parameters_ratio) for each in family)
        text = f"{name}: {in_words(before)} to {after}"
        handles.append(Line2D([], [], color=color, marker="o", linestyle="", label=text))
    finetuned = all(each.finetuned_accuracy is not None for each in shown)
    state = "fine-tuned" if finetuned else "not all of them fine-tuned"
    panels[0].set_xscale("log")
    panels[0].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panels[0].xaxis.set_major_formatter(lambda value, _: in_words(value))
    panels[0].xaxis.set_minor_locator(NullLocator())
    panels[0].set_xlabel("parameters", fontsize=8)
    panels[0].set_ylabel("accuracy, %", fontsize=8)
    panels[0].set_title(f"networks (hollow), and cut down to their utilized ranks ({state})", fontsize=9, loc="left")
    panels[1].set_xlabel("parameters that are left, %", fontsize=8)
    panels[1].set_ylabel("change of the accuracy, points", fontsize=8)
    papers = any(_paper(each) for each in shown)
    panels[1].set_title(f"what that changed{', and in the paper (squares)' if papers else ''}", fontsize=9, loc="left")
    panels[1].axhline(0, color="0.8", linewidth=0.8, zorder=0)
    panels[1].set_xlim(0, 105)
    for axes in panels:
        axes.margins(0.12)
        axes.tick_params(labelsize=8)
        axes.grid(color="0.93")
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.legend(handles=handles, loc="outside lower left", ncols=3, frameon=False, fontsize=8)
    figure.suptitle(
        "area: FLOPs of a forward pass; numbers: tolerance in %", fontsize=8, x=0.01, ha="left", color="0.4"
    )
    return figure


def _sizes(axes: Axes, family: Sequence[Kept], color: str, most: int) -> None:
    """A network as it was, and what became of it."""
    first = family[0]
    parameters, flops = first.parameters or 0, first.flops or 0
    x = [parameters, *(parameters * each.parameters_ratio for each in family)]
    y = [first.original_accuracy, *(each.reached or 0.0 for each in family)]
    areas = [LARGEST * flops / most, *(LARGEST * flops * each.flops_ratio / most for each in family)]
    for place in range(1, len(x)):
        axes.plot([x[0], x[place]], [y[0], y[place]], color=color, linewidth=0.7, alpha=0.5, zorder=1)
    axes.scatter(x[:1], y[:1], s=areas[:1], facecolors="none", edgecolors=color, linewidths=1.2, zorder=2)
    axes.scatter(x[1:], y[1:], s=areas[1:], color=color, alpha=0.6, linewidths=0, zorder=3)
    for each, where in zip(family, zip(x[1:], y[1:], strict=True), strict=True):
        _tell(axes, each, where, color)


def _changes(axes: Axes, family: Sequence[Kept], color: str) -> None:
    """The same as shares and differences; the paper's as hollow squares."""
    for each in family:
        where = 100 * each.parameters_ratio, (each.reached or 0.0) - each.original_accuracy
        axes.scatter(*where, s=LARGEST / 2 * each.flops_ratio, color=color, alpha=0.6, linewidths=0, zorder=3)
        _tell(axes, each, where, color)
        if paper := _paper(each):
            there = 100 * paper.parameters, paper.accuracy - paper.original_accuracy
            look: dict[str, Any] = {"facecolors": "none", "edgecolors": color, "marker": "s", "linewidths": 1.1}
            axes.scatter(*there, s=LARGEST / 2 * paper.flops, zorder=2, **look)


def _tell(axes: Axes, each: Kept, where: tuple[float, float], color: str) -> None:
    if each.tolerance is not None:
        text = f"{each.tolerance:g}"
        axes.annotate(text, where, xytext=(0, 0), textcoords="offset points", fontsize=6.5, ha="center", va="center")


def _paper(each: Kept) -> Any:
    return published_at(each.network or "", each.dataset or "", each.tolerance or 0.1)
