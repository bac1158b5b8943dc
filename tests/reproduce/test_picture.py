"""The picture of a comparison: its points, its front, and labels that can be read."""

from typing import Any

import matplotlib.figure
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from oialr_hpo.experiment.score import Goal
from oialr_hpo.report.labels import place
from oialr_hpo.reproduce.picture import Point, picture, points

ROWS = {  # trained and all parameters in percent, error
    "dense": (100.0, 100.0, 0.015),
    "untuned": (30.0, 140.0, 0.019),
    "tuned": (13.0, 27.0, 0.021),
    "dense, tuned": (100.0, 100.0, 0.013),
}
CROWD = {
    **{"dense": (100, 1.5), "OIALR": (13, 2.1), "RigL": (20, 2.1), "DLRT": (55, 2.6), "SFP": (50, 2.0)},
    **{"LRNN": (18, 2.2), "CP": (48, 2.5), "ThiNet": (45, 2.45), "GAL": (44, 2.4), "PP": (22, 2.15)},
    **{"RNP": (20.5, 2.12), "Cuttlefish": (21, 2.08)},
}


def experiment(sign: int = 1) -> dict[str, Any]:
    """As a comparison's content has it; one row was never computed, one has one seed."""
    rows: list[dict[str, Any]] = [{"method": "rigl, untuned", "metrics": {}}]
    for name, values in ROWS.items():
        cells = zip(("trainable_percent", "total_percent", "error"), (*values[:2], sign * values[2]), strict=True)
        std = None if name == "tuned" else 0.001
        rows.append({"method": name, "metrics": {key: {"mean": value, "std": std} for key, value in cells}})
    return {"name": "x", "rows": rows}


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_every_measured_row_is_a_point_and_those_beaten_by_none_are_the_front(direction: Any) -> None:
    goal = Goal("error", direction)
    found = {point.label: point for point in points(experiment(goal.sign), goal, "trainable_percent")}
    assert found["OIALR, tuned"] == Point("OIALR, tuned", 13.0, 0.0, goal.sign * 0.021, 0.0, best=True)
    assert found["dense"] == Point("dense", 100.0, 0.001, goal.sign * 0.015, 0.001, best=False)
    assert [point.best for point in found.values()] == [False, True, True, True]
    assert [point.best for point in points(experiment(goal.sign), goal, "total_percent")] == [False, False, True, True]


def test_a_picture_needs_two_rows() -> None:
    whole, goals = experiment(), {"x": Goal("error", "minimize")}
    single = whole | {"rows": whole["rows"][:2]}
    assert picture({"experiments": [single]}, goals) is None
    drawn = picture({"experiments": [whole, single]}, goals)
    assert drawn is not None and drawn.startswith(b"\x89PNG")


def test_labels_hide_neither_each_other_nor_a_point() -> None:
    figure = matplotlib.figure.Figure(figsize=(5, 4))
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    axes.set_xscale("log")
    axes.set_xlim(10, 150)
    axes.set_ylim(1.3, 2.8)
    canvas.draw()
    place(canvas, axes, list(CROWD), list(CROWD.values()), [])
    boxes = [text.get_window_extent() for text in axes.texts]
    assert [text.get_text() for text in axes.texts] == list(CROWD)
    assert not any(box.count_overlaps(boxes[:number]) for number, box in enumerate(boxes))
    places = axes.transData.transform(list(CROWD.values()))
    assert not any(box.contains(x, y) for box in boxes for x, y in places)
