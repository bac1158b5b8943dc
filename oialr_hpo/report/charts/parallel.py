"""A line per trial through its scores and its settings."""

import plotly.graph_objects as go
from optuna import visualization

from oialr_hpo.report.facts import Facts, NothingToDraw
from oialr_hpo.report.look import RED

TITLE = "Settings of all trials"
WIDEST = 14
"""Characters of a line below an axis."""


def draw(facts: Facts) -> tuple[go.Figure, str]:
    """The best trial stands out; with several goals, what is near to the Pareto front."""
    if len(facts.complete) < 2:
        raise NothingToDraw(f"Needs two complete trials; there are {len(facts.complete)}.")
    goals = list(facts.goals)
    if len(goals) == 1:
        figure = visualization.plot_parallel_coordinate(facts.study, params=facts.tried, target_name=goals[0])
        caption = f"A line per complete trial, from its {goals[0]} through its settings; darker is better."
    else:
        figure = visualization.plot_parallel_coordinate(facts.study, params=facts.tried)
        caption = (
            "A line per complete trial, from its scores through its settings; darker is nearer to the Pareto front."
        )
    winner = facts.winners[0].number if facts.winners and len(goals) == 1 else None
    for trial, trace in zip(facts.complete, figure.data, strict=False):
        trace.update(line={"width": 1.6}, opacity=0.8)
        if trial.number == winner:
            trace.update(line={"color": RED, "width": 3.5}, opacity=1.0, name=f"best: trial {winner}", showlegend=True)
    keys = [_broken(key) for key in sorted(facts.tried)]  # Optuna sorts them, and shortens their names
    scores = [goal.replace(" + ", "<br>+ ") for goal in goals]
    figure.update_xaxes(ticktext=[*scores, *keys], tickfont={"size": 11})
    figure.update_traces(marker={"colorbar": {"title": None, "thickness": 12}}, selector={"mode": "markers"})
    figure.update_layout(height=430, margin={"l": 60, "r": 20, "t": 40, "b": 60})
    if facts.conditional:
        caption += " None: it is not searched beside the trial's other settings."
    return figure, caption


def _broken(key: str) -> str:
    """A dotted key in lines that fit beside those of other axes."""
    return ".<br>".join(part if len(part) <= WIDEST else part.replace("_", "_<br>") for part in key.split("."))
