"""Trainings beside each other over their epochs, as in the OIALR paper's Figures 2 and 4: what overfits, what dips."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from oialr_hpo.experiment.score import Goal
from oialr_hpo.report.course import Course
from oialr_hpo.report.heat_map import legend

COLORS = ("#1f5fa8", "#8a9099", "#e07b1a", "#2a8c5a", "#7d3c98")
"""Of the first training, of the one beside it, which is dense in most cases, and of others."""
DASHED = (0, (4, 2))


def draw(courses: Sequence[Course]) -> Figure | None:
    """One or more trainings, the first one in front: its metric, the mean stability, the share that is trained.

    The metric of training has a panel of its own where it lies apart from that of validation.

    Returns:
        None where the first one has recorded no epoch of its metric.
    """
    goal = courses[0].goal
    if not (courses[0].validated(goal.metric) or courses[0].trained(goal.metric)):
        return None
    tracked, apart = any(course.stability for course in courses), _apart(courses, goal)
    heights = {"metric": 3.0 - apart} | ({"training": 1.5} if apart else {}) | ({"stability": 1.1} if tracked else {})
    figure, panels = _panels(heights | {"share": 1.1})
    unit = " (%)" if goal.metric.startswith("top") else ""
    for panel, label in {
        "metric": goal.metric + unit,
        "training": f"{goal.metric} of\ntraining{unit}",
        "stability": "mean\nstability",
        "share": "trained, %\nof the dense\nnetwork",
    }.items():
        if panel in panels:
            panels[panel].set_ylabel(label, fontsize=8)
    notes, absent = [], []
    for place, (name, course, color) in enumerate(zip(_names(courses), courses, COLORS, strict=False)):
        look: dict[str, Any] = {"color": color, "zorder": 3 - 0.1 * place}
        _draw_metric(panels["metric"], course, goal, name, look)
        if points := course.trained(goal.metric):
            text = f"{name}, training: {points[-1][1]:.4g}"
            on = panels.get("training", panels["metric"])
            on.plot(*zip(*points, strict=True), linestyle=DASHED, linewidth=1.1, label=text, **look)
        if stability := course.stability:
            text = f"{name}: {stability[-1][1]:.3f}"
            panels["stability"].plot(*zip(*stability, strict=True), label=text, **look)
        if shares := course.measured("trainable_percent"):
            text = f"{name}: {shares[-1][1]:.3g} %"
            panels["share"].plot(*zip(*shares, strict=True), drawstyle="steps-mid", label=text, **look)
        _mark_change_over([*panels.values()], course, look)
        notes += _dip(name, course, goal)
        absent += _absent(name, course, goal, tracked)
    panels["share"].set_ylim(bottom=0)
    for axes in panels.values():
        if axes.get_legend_handles_labels()[0]:
            legend(axes)
    shown = " beside ".join(f"{course.method} ({course.name})" for course in courses)
    panels["metric"].set_title("\n".join([shown, *notes]), fontsize=9, loc="left", pad=14)
    figure.supxlabel("\n".join(absent), fontsize=7, color="0.4", x=0.01, ha="left")
    return figure


def _apart(courses: Sequence[Course], goal: Goal) -> bool:
    """Whether all that is measured in training lies above, or below, all of validation and test."""
    trained = [value for course in courses for _, value in course.trained(goal.metric)]
    held = [value for c in courses for _, value in c.validated(goal.metric) + c.tested(goal.metric)]
    return bool(trained and held) and (min(trained) > max(held) or max(trained) < min(held))


def _panels(heights: Mapping[str, float]) -> tuple[Figure, dict[str, Axes]]:
    """One below the other, over the same epochs."""
    figure = Figure(figsize=(8.2, 1.2 + sum(heights.values())), layout="constrained")
    ratios = {"height_ratios": [*heights.values()]}
    panels: Any = figure.subplots(len(heights), 1, sharex=True, gridspec_kw=ratios)
    for axes in panels:
        axes.tick_params(labelsize=8)
        axes.grid(axis="y", color="0.9")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    panels[-1].set_xlabel("epoch", fontsize=8)
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure, dict(zip(heights, panels, strict=True))


def _names(courses: Sequence[Course]) -> list[str]:
    """By method, where that tells them apart, else by trial, else by run."""
    for names in (
        [course.method for course in courses],
        [f"{course.method}, trial {course.trial.number}" for course in courses],
    ):
        if len({*names}) == len(names):
            return names
    return [course.name for course in courses]


def _draw_metric(axes: Axes, course: Course, goal: Goal, name: str, look: dict[str, Any]) -> None:
    if points := course.validated(goal.metric):
        axes.plot(*zip(*points, strict=True), label=f"{name}, validation: {points[-1][1]:.4g}", **look)
    best = course.best(goal)
    if best and best[0] != points[-1][0]:
        text = f"{name}, best: {best[1]:.4g} in epoch {best[0]}"
        axes.plot(*best, linestyle="", marker="o", markersize=4.5, markerfacecolor="white", label=text, **look)
    if points := course.tested(goal.metric):
        text = f"{name}, test: {points[-1][1]:.4g}"
        axes.plot(*points[-1], linestyle="", marker="*", markersize=9, label=text, **look)


def _mark_change_over(panels: Sequence[Axes], course: Course, look: dict[str, Any]) -> None:
    """A line before the first epoch that ended with a smaller network."""
    at = course.change_over
    if at is None or at == course.trial.epochs[0]["epoch"]:
        return
    for axes in panels:
        axes.axvline(at - 0.5, linewidth=0.9, linestyle=(0, (1, 1.5)), **look)
    panels[0].annotate(
        "d", (at - 0.5, 1), xycoords=panels[0].get_xaxis_transform(), xytext=(0, 2), textcoords="offset points",
        fontsize=8, style="italic", ha="center", color=look["color"],
    )  # fmt: skip


def _dip(name: str, course: Course, goal: Goal) -> list[str]:
    """What the change-over cost."""
    if not (dip := course.dip(goal)):
        return []
    before, after, again = dip
    regained = f"made up for in epoch {again}" if again else "not made up for"
    return [f"the dip at d of {name}: {goal.metric} {before:.4g} to {after:.4g}, {regained}"]


def _absent(name: str, course: Course, goal: Goal, tracked: bool) -> list[str]:
    """What was not recorded."""
    lacks = [] if course.trained(goal.metric) else [f"{goal.metric} of training"]
    lacks += [] if course.validated(goal.metric) else [f"{goal.metric} of validation"]
    lacks += ["stability (training.track)"] if tracked and not course.stability else []
    return [f"not recorded of {name}: {', '.join(lacks)}"] if lacks else []
