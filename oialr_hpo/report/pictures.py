"""The charts as PNG files: what plotly would draw in a browser, drawn with matplotlib, which needs none."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from plotly import graph_objects as go

MARKERS = {"x": "X", "x-thin-open": "x", "star": "*", "diamond": "D", "square": "s"}
DASHES = {"dash": (0, (5, 3)), "dot": (0, (1, 2))}
WIDTH = 1080  # of the page, in pixels of a browser


def draw(figure: go.Figure, title: str) -> Figure:
    """A plotly figure of scatter and bar traces on one or more axes as a matplotlib figure."""
    figure = go.Figure(figure)
    height = figure.layout.height + 30
    drawn = Figure(figsize=(WIDTH / 100, height / 100))
    longest = max((len(_plain(name)) for trace in figure.data if trace.type == "bar" for name in trace.y), default=0)
    scale = any(trace.type == "scatter" and trace.marker.showscale for trace in figure.data)
    left, right = max(95, 6.2 * longest + 25) / WIDTH, (75 if scale else 30) / WIDTH
    top, bottom = 75 / height, 65 / height
    drawn.text(0.02, 1 - 22 / height, title, fontsize=12, fontweight="bold", va="center")
    panels: dict[tuple[str, str], Axes] = {}
    for trace in figure.data:
        names = trace.xaxis or "x", trace.yaxis or "y"
        if names not in panels:
            axis_x, axis_y = (figure.layout[f"{name[0]}axis{name[1:]}"] for name in names)
            (x0, x1), (y0, y1) = axis_x.domain or (0, 1), axis_y.domain or (0, 1)
            across, up = 1 - left - right, 1 - top - bottom
            axes = drawn.add_axes((left + x0 * across, bottom + y0 * up, (x1 - x0) * across, (y1 - y0) * up))
            panels[names] = prepared(axes)
        if trace.type == "bar":
            _bars(panels[names], trace, _categories(figure))
        else:
            _scatter(drawn, panels[names], trace)
    for (x, y), axes in panels.items():
        _axis(axes, "x", figure.layout[f"xaxis{x[1:]}"])
        _axis(axes, "y", figure.layout[f"yaxis{y[1:]}"])
        if x == "x":
            _decorate(axes, figure)
    if figure.layout.showlegend is not False:
        _legend(drawn, list(panels.values()), 1 - 50 / height)
    return drawn


def _categories(figure: go.Figure) -> list[str]:
    """The rows of a bar chart from the bottom up: as the axis says, or as they come."""
    order = figure.layout.yaxis.categoryarray
    return list(order if order is not None else dict.fromkeys(name for trace in figure.data for name in trace.y))


def prepared(axes: Axes) -> Axes:
    """Axes in the look of all pictures."""
    axes.grid(color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, color="0.8")
    for side in axes.spines.values():
        side.set_visible(False)
    return axes


def _scatter(figure: Figure, axes: Axes, trace: go.Scatter) -> None:
    x, y = _values(trace.x), _values(trace.y)
    label = trace.name if trace.showlegend is not False and trace.name else None
    opacity = trace.opacity if trace.opacity is not None else 1.0
    if "lines" in (trace.mode or "lines"):
        style = DASHES.get(trace.line.dash, "-")
        width = 0.8 * (trace.line.width or 2)
        drawn = "steps-post" if trace.line.shape == "hv" else "default"
        look: dict[str, Any] = {"linestyle": style, "linewidth": width, "drawstyle": drawn, "label": label}
        axes.plot(x, y, color=_color(trace.line.color), alpha=opacity, **look)
        label = None
    if "markers" in (trace.mode or "") and len(x):
        marker = trace.marker
        sizes = np.broadcast_to(np.asarray(marker.size if marker.size is not None else 6, float), len(x)) ** 2 * 0.55
        look = {"marker": MARKERS.get(marker.symbol, "o"), "s": sizes, "label": label}
        scaled = isinstance(marker.color, (list, tuple, np.ndarray)) and not isinstance(marker.color[0], str)
        if scaled:
            low, high = (
                (marker.cmin, marker.cmax) if marker.cmin is not None else (min(marker.color), max(marker.color))
            )
            colors = colormaps["Blues_r" if marker.reversescale else "Blues"]
            look |= {"edgecolors": "0.6", "linewidths": 0.4, "norm": Normalize(low, high), "cmap": colors}
            points = axes.scatter(x, y, c=marker.color, **look)
            if marker.showscale:
                _color_bar(figure, points, marker.colorbar.title.text)
        else:
            look |= {"color": _color(marker.color), "alpha": (marker.opacity or 1.0) * opacity, "zorder": 3}
            axes.scatter(x, y, linewidths=1.2 if look["marker"] == "x" else 0, **look)


def _color_bar(figure: Figure, drawn: Any, title: str | None) -> None:
    axes = figure.add_axes((1 - 45 / WIDTH, 0.3, 8 / WIDTH, 0.4))
    bar = figure.colorbar(drawn, cax=axes)
    bar.outline.set_visible(False)  # type: ignore[operator]
    axes.tick_params(labelsize=7, length=0)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=title == "trial"))
    axes.set_title(title or "", fontsize=8)


def _bars(axes: Axes, trace: go.Bar, categories: list[str]) -> None:
    y = [categories.index(name) for name in trace.y]
    axes.set_yticks(range(len(categories)), [_plain(name) for name in categories])
    base = _values(trace.base) if trace.base is not None else None
    look = {"color": _color(trace.marker.color), "edgecolor": "white", "linewidth": 0.8, "label": trace.name}
    axes.barh(y, _values(trace.x), left=base, height=0.7, **look)
    if trace.error_x.array is not None:
        reach = [_values(trace.error_x.arrayminus), _values(trace.error_x.array)]
        axes.errorbar(
            _values(trace.x), y, xerr=reach, fmt="none", ecolor=_color(trace.error_x.color), elinewidth=1, capsize=2
        )
    if trace.texttemplate or (trace.text is not None and trace.textposition != "none"):
        for label, width, text in zip(y, _values(trace.x), trace.text, strict=True):
            axes.annotate(
                _plain(text), (width, label), xytext=(3, 0), textcoords="offset points", va="center", fontsize=8
            )


def _axis(axes: Axes, side: str, layout: Any) -> None:
    axis = axes.xaxis if side == "x" else axes.yaxis
    if layout.visible is False:
        axis.set_visible(False)
    if layout.type == "log":
        (axes.set_xscale if side == "x" else axes.set_yscale)("log")
    if layout.tickvals is not None:
        axis.set_major_locator(FixedLocator(list(layout.tickvals)))
        axis.set_minor_locator(NullLocator())
        axis.set_ticklabels([_plain(text) for text in layout.ticktext or [f"{value:g}" for value in layout.tickvals]])
    set_limits = axes.set_xlim if side == "x" else axes.set_ylim
    if layout.range is not None and layout.type != "log":
        set_limits(*layout.range)
    elif layout.rangemode == "tozero" and layout.type != "log":
        (axes.set_xlim(left=0) if side == "x" else axes.set_ylim(bottom=0))
    if layout.autorange == "reversed":
        axis.set_inverted(True)
    if layout.showticklabels is False:
        axis.set_tick_params(labelleft=False)
    if layout.showgrid is False:
        axes.grid(visible=False, axis="x" if side == "x" else "y")
    axis.set_label_text(_plain(layout.title.text or ""), fontsize=9)


def _decorate(axes: Axes, figure: go.Figure) -> None:
    """Lines and words in the coordinates of the data."""
    for shape in figure.layout.shapes:
        axes.plot([shape.x0, shape.x1], [shape.y0, shape.y1], color=shape.line.color, linewidth=1, zorder=0)
    for note in figure.layout.annotations:
        if note.xref in (None, "x"):
            place: dict[str, Any] = {
                "xytext": (0, -9 if note.yanchor == "top" else 3),
                "textcoords": "offset points",
                "ha": "center",
            }
            axes.annotate(_plain(note.text), (note.x, note.y), fontsize=7, color="0.35", **place)


def _legend(figure: Figure, panels: list[Axes], top: float) -> None:
    found: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        look: dict[str, Any] = {"frameon": False, "fontsize": 8.5, "columnspacing": 1.4, "handlelength": 1.6}
        figure.legend(
            list(found.values()), list(found), loc="center left", bbox_to_anchor=(0.012, top), ncols=8, **look
        )


def _values(values: Any) -> list[Any]:
    return [np.nan if value is None else value for value in values]


def _color(color: Any) -> Any:
    """A colour of CSS as matplotlib knows it."""
    match = re.fullmatch(r"rgba?\(([^)]*)\)", color) if isinstance(color, str) else None
    if match is None:
        return color
    red, green, blue, *opacity = (float(part) for part in match[1].split(","))
    return (red / 255, green / 255, blue / 255, *opacity)


def _plain(text: str) -> str:
    """Text without the tags that plotly understands."""
    return re.sub(r"<[^>]*>", "", str(text).replace("<br>", "\n"))
