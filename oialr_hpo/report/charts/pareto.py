"""The first goal's metric against the trainable share."""

import plotly.graph_objects as go
from optuna import visualization

from oialr_hpo.experiment.score import Goal
from oialr_hpo.report import study
from oialr_hpo.report.facts import Facts, NothingToDraw
from oialr_hpo.report.look import BLUE, DARK, LIGHT, ORANGE, RED, hover, log_ticks
from oialr_hpo.runs.events import number

TITLE = "{metric} and trainable share"
SHARE = "trainable_percent"


def metric(facts: Facts) -> str:
    """The first goal that is not the trainable share itself."""
    return _goal(facts).metric


def _goal(facts: Facts) -> Goal:
    goals = facts.experiment.score.goals
    return next((goal for goal in goals if goal.metric != SHARE), goals[0])


def draw(facts: Facts) -> tuple[go.Figure, str]:
    """Complete trials, those that are beaten by none, and the best, the untuned and the dense one."""
    share = SHARE
    metric, direction = _goal(facts)
    measured = [trial for trial in facts.complete if all(number(trial.metrics.get(name)) for name in (metric, share))]
    if not measured:
        raise NothingToDraw(f"No complete trial has both {metric} and a trainable share.")
    aims = {
        "trainable parameters, % of the dense model's": study.Aim("minimize", lambda trial: trial.metrics[share]),
        metric: study.Aim(direction, lambda trial: trial.metrics[metric]),
    }
    both = study.derive(measured, facts.experiment, aims)
    figure = visualization.plot_pareto_front(both, target_names=list(aims))
    by_place = {(trial.metrics[share], trial.metrics[metric]): trial for trial in measured}
    front = {(trial.values[0], trial.values[1]) for trial in both.best_trials}
    for trace in figure.data:
        places = list(zip(trace.x, trace.y, strict=True))
        name, color = ("beaten by none", BLUE) if places and places[0] in front else ("other trials", LIGHT)
        trace.update(marker={"color": color, "size": 8, "colorscale": None, "showscale": False}, name=name)
        trace.update(text=[hover(by_place[place]) for place in places], hovertemplate="%{text}<extra></extra>")
        trace.update(showlegend=bool(places))
    along = sorted(front)
    line = {"color": BLUE, "width": 1, "shape": "hv"}
    figure.add_scatter(
        x=[x for x, _ in along], y=[y for _, y in along], mode="lines", line=line, hoverinfo="skip", showlegend=False
    )
    winner = facts.winners[0] if facts.winners and len(facts.goals) == 1 else None
    marks = [
        (winner, f"best: trial {winner.number}" if winner else "", RED, "star"),
        (facts.untuned, "untuned", ORANGE, "diamond"),
        (facts.dense, "dense", DARK, "square"),
    ]
    for trial, name, color, symbol in marks:
        if trial is None:
            continue
        figure.add_scatter(
            x=[trial.metrics.get(share)],
            y=[trial.metrics.get(metric)],
            mode="markers",
            marker={"color": color, "symbol": symbol, "size": 13},
            name=name,
            text=[hover(trial)],
            hovertemplate="%{text}<extra></extra>",
        )
    shares = [trial.metrics[share] for trial in measured] + ([100.0] if facts.dense else [])
    if 0 < 5 * min(shares) < max(shares):
        figure.update_xaxes(type="log", tickvals=log_ticks(min(shares), max(shares)))
    where = "Down" if direction == "minimize" else "Up"
    caption = (
        f"Complete trials, {len(front)} of {len(measured)} beaten by no other in both. {where} and left is better."
    )
    if facts.experiment.score.trainable_weight:
        caption += " The score weighs the two; the star has the best score."
    return figure, caption
