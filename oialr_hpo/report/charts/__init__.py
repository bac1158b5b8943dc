"""The charts of a search, by Optuna's visualisation wherever it has them; drawn with plotly.

A chart is a file here and its place in `CHARTS`: a `TITLE`, which may name the `{goals}`, the first `{goal}` or the
`{metric}` beside the trainable share, and `draw`, which makes of a search's facts the figure and what a reader should
know about it, or raises `NothingToDraw`.
"""

import warnings
from dataclasses import dataclass

import plotly.graph_objects as go

from oialr_hpo.report.charts import (
    failures,
    importance,
    parallel,
    pareto,
    progress,
    ranks,
    running,
    schedule,
    slices,
    stopped,
    timeline,
)
from oialr_hpo.report.facts import Facts, NothingToDraw
from oialr_hpo.report.look import styled
from oialr_hpo.runs.trial import State

CHARTS = (progress, pareto, importance, parallel, slices, ranks, schedule, timeline, stopped, failures)
"""In the order in which they are read; before them, while trials run, `running`."""


@dataclass(frozen=True)
class Chart:
    """A chart with what a reader should know about it; without a figure, the caption says why there is none."""

    name: str
    title: str
    caption: str
    figure: go.Figure | None


def draw(facts: Facts) -> list[Chart]:
    """All charts of a search, each by the name of its file."""
    goals = list(facts.goals)
    names = {"goals": " and ".join(goals), "goal": goals[0], "metric": pareto.metric(facts)}
    drawn = []
    runs = any(trial.state is State.RUNNING for trial in facts.trials)
    for chart in (running, *CHARTS) if runs else CHARTS:
        name = chart.__name__.rpartition(".")[2]
        title = ranks.title(facts) if chart is ranks else chart.TITLE.format(**names)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Optuna's: experimental plots, goals that are minimised
                figure, caption = chart.draw(facts)
            drawn.append(Chart(name, title, caption, styled(figure)))
        except NothingToDraw as nothing:
            drawn.append(Chart(name, title, str(nothing), None))
    return drawn
