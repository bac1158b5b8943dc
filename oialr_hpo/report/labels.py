"""Names beside points, where they hide neither each other nor a point; a thin line leads to one that stands apart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

SIZE = 8.0
NEAR = 7.0
"""Points of typography from the middle of a marker to a label that needs no line."""
DISTANCES = (NEAR, 15.0, 25.0, 36.0, 48.0, 62.0, 78.0, 96.0)
STRAIGHT, OBLIQUE = ((1, 0), (-1, 0), (0, 1), (0, -1)), ((1, 1), (-1, 1), (1, -1), (-1, -1))
DIRECTIONS = (*STRAIGHT, *OBLIQUE, (1, 0.4), (1, -0.4), (-1, 0.4), (-1, -0.4))
ON_LABEL, ON_POINT, OUTSIDE, CROSSING, ON_LINE = 40.0, 25.0, 60.0, 8.0, 1.5
"""What it costs a place to lie there; its distance costs as much as it is long, in lines of text."""

Place = tuple[float, float]
Lines = NDArray[np.float64]
"""Some places along each of several lines, in pixels: lines x places x 2."""


def place(
    canvas: FigureCanvasAgg,
    axes: Axes,
    labels: Sequence[str],
    points: Sequence[Place],
    strokes: Sequence[tuple[Place, Place]],
) -> None:
    """Write each label where it hides least, one after another.

    Args:
        canvas: of the axes' figure, once drawn.
        axes: whose limits and place in the figure are final.
        points: that the labels are of, in the coordinates of the data.
        strokes: straight lines that labels had better not hide either, from one such place to another.
    """
    unit, frame = canvas.figure.dpi / 72, axes.get_window_extent()
    middles = axes.transData.transform(np.asarray(points, float))
    markers = [Bbox.from_extents(x - 4 * unit, y - 4 * unit, x + 4 * unit, y + 4 * unit) for x, y in middles]
    hidden = _lines([axes.transData.transform(stroke) for stroke in strokes])
    boxes: list[Bbox] = []
    leaders: list[Any] = []
    for number, (label, (x, y)) in enumerate(zip(labels, middles, strict=True)):
        others = markers[:number] + markers[number + 1 :]
        width, height = _extent(axes, canvas, label)
        best, led = (np.inf, Bbox.null()), _lines(leaders)
        for (right, up), distance in product(DIRECTIONS, DISTANCES):
            box = _beside(x + distance * unit * right, y + distance * unit * up, width, height, right, up)
            cost = distance / SIZE + ON_LABEL * box.count_overlaps(boxes) + ON_POINT * box.count_overlaps(others)
            cost += OUTSIDE * (not (frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1)))
            cost += ON_LINE * _crossing(hidden, box) + CROSSING * _crossing(led, box)
            if distance > NEAR and cost < best[0]:
                leader = _lines([((x, y), _nearest(box, x, y))])
                cost += CROSSING * sum(_crossing(leader[:, 8:], other) for other in (*boxes, *others))
            if cost < best[0]:
                best = cost, box
        box = best[1]
        shift = (box.x0 - x) / unit, (box.y0 - y) / unit
        look: dict[str, Any] = {"fontsize": SIZE, "zorder": 5}
        look["path_effects"] = [withStroke(linewidth=2, foreground="white")]
        axes.annotate(label, points[number], xytext=shift, textcoords="offset points", **look)
        boxes.append(box.padded(1.5 * unit))
        if np.hypot(*np.subtract(end := _nearest(box, x, y), (x, y))) > 1.5 * NEAR * unit:
            leaders.append(((x, y), end))
            ends = axes.transData.inverted().transform([(x, y), end])
            axes.plot(*ends.T, color="0.6", linewidth=0.6, zorder=1, scalex=False, scaley=False)


def _extent(axes: Axes, canvas: FigureCanvasAgg, label: str) -> Place:
    """Width and height, in pixels."""
    text = axes.text(0, 0, label, fontsize=SIZE)
    extent = text.get_window_extent(canvas.get_renderer())
    text.remove()
    return extent.width, extent.height


def _beside(x: float, y: float, width: float, height: float, right: float, up: float) -> Bbox:
    """A box that begins at a place and lies in a direction of it."""
    left = x if right > 0 else x - width if right < 0 else x - width / 2
    below = y - height / 2 if abs(up) < 1 else y if up > 0 else y - height
    return Bbox.from_bounds(left, below, width, height)


def _nearest(box: Bbox, x: float, y: float) -> Place:
    """The place of a box that is nearest to another one."""
    return min(max(x, box.x0), box.x1), min(max(y, box.y0), box.y1)


def _lines(ends: Sequence[Any]) -> Lines:
    along = np.linspace(0, 1, 60)[:, None]
    return np.array([np.add(begin, along * np.subtract(end, begin)) for begin, end in ends]).reshape(-1, 60, 2)


def _crossing(lines: Lines, box: Bbox) -> int:
    """How many of the lines a box lies on."""
    inside = ((lines >= box.min) & (lines <= box.max)).all(2)
    return int(inside.any(1).sum())
