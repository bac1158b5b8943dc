"""The rows of a comparison as points: what they reach against how small they are, and the Pareto front."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from oialr_hpo.experiment.score import Goal
from oialr_hpo.report.labels import Place, place
from oialr_hpo.report.look import BLUE, DARK, GREY, log_ticks
from oialr_hpo.report.pictures import prepared
from oialr_hpo.reproduce.markdown import label

SHARES = {
    "trainable_percent": "trained parameters, % of the dense network's",
    "total_percent": "all parameters, % of the dense network's",
}
WIDE = 5.0
"""From this ratio on, an axis of shares is logarithmic."""


class Point(NamedTuple):
    """A row of a table.

    Attributes:
        label: as in the table.
        share, share_std: percent of parameters, mean and standard deviation over the seeds; zero with one seed.
        reached, reached_std: the same of the metric.
        best: no other row is as good in both and better in one.
    """

    label: str
    share: float
    share_std: float
    reached: float
    reached_std: float
    best: bool


def points(experiment: Mapping[str, Any], goal: Goal, share: str) -> list[Point]:
    """The measured rows of an experiment, as the content of a comparison has it.

    Args:
        goal: what they are to reach.
        share: the percent they are drawn against, a key of `SHARES`.
    """
    metric, sign = goal.metric, goal.sign
    rows = [row for row in experiment["rows"] if all(_known(row, name) for name in (share, metric))]
    places = [(row["metrics"][share]["mean"], sign * row["metrics"][metric]["mean"]) for row in rows]
    found = []
    for row, (x, y) in zip(rows, places, strict=True):
        beaten = any(one <= x and other <= y and (one, other) != (x, y) for one, other in places)
        stds = [row["metrics"][name]["std"] or 0.0 for name in (share, metric)]
        found.append(Point(label(row, experiment), x, stds[0], sign * y, stds[1], not beaten))
    return found


def _known(row: Mapping[str, Any], metric: str) -> bool:
    return metric in row["metrics"] and math.isfinite(row["metrics"][metric]["mean"])


def picture(content: Mapping[str, Any], goals: Mapping[str, Goal]) -> bytes | None:
    """A PNG of a comparison's content: two panels for each experiment of which several rows are measured.

    Args:
        goals: by the experiment's name.

    Returns:
        None where there is no such experiment.
    """
    shown = [each for each in content["experiments"] if len(points(each, goals[each["name"]], "total_percent")) > 1]
    if not shown:
        return None
    figure = Figure(figsize=(10.8, 0.4 + 4.4 * len(shown)), layout="constrained")
    panels = figure.subplots(len(shown), len(SHARES), squeeze=False)
    drawn = []
    for experiment, row in zip(shown, panels, strict=True):
        goal = goals[experiment["name"]]
        for axes, share in zip(row, SHARES, strict=True):
            drawn.append((axes, points(experiment, goal, share)))
            _draw(prepared(axes), drawn[-1][1])
            where = "down" if goal.direction == "minimize" else "up"
            axes.set_title(f"{experiment['name']}: {where} and left is better", fontsize=9, loc="left", color=DARK)
            axes.set_xlabel(SHARES[share], fontsize=9)
            axes.set_ylabel(goal.metric, fontsize=9)
    figure.get_layout_engine().set(h_pad=0.12, w_pad=0.12)  # type: ignore[union-attr, call-arg]
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    figure.set_layout_engine("none")  # what is written from here on moves nothing
    for axes, found in drawn:
        bars = [((x, y - std), (x, y + std)) for _, x, _, y, std, _ in found]
        labels, places = [each.label for each in found], [(each.share, each.reached) for each in found]
        place(canvas, axes, labels, places, bars + _front(found))
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150)
    return file.getvalue()


def _front(found: Sequence[Point]) -> list[tuple[Place, Place]]:
    """What the best points bound, as straight lines."""
    corners = sorted((each.share, each.reached) for each in found if each.best)
    steps = [[(one, (other[0], one[1])), ((other[0], one[1]), other)] for one, other in pairwise(corners)]
    return [stroke for step in steps for stroke in step]


def _draw(axes: Axes, found: Sequence[Point]) -> None:
    shares = [each.share for each in found]
    if 0 < WIDE * min(shares) < max(shares):
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        ticks = log_ticks(min(shares), max(shares))
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlim(min(shares) / 1.5, max(shares) * 1.5)
    else:
        axes.set_xlim(0, 1.12 * max(shares))
    for begin, end in _front(found):
        axes.plot([begin[0], end[0]], [begin[1], end[1]], color=BLUE, linewidth=1, alpha=0.6, zorder=2)
    for each in found:
        color = DARK if each.label == "dense" else BLUE if each.best else GREY
        axes.errorbar(
            each.share, each.reached, xerr=each.share_std, yerr=each.reached_std,
            fmt="s" if each.label.startswith("dense") else "o", markersize=6.5, color=color, elinewidth=0.9, zorder=4,
            markerfacecolor="white" if each.label.endswith("untuned") else color,
        )  # fmt: skip
    axes.margins(y=0.15)
