"""The curves of the trials that are being trained."""

import math
from itertools import cycle

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from oialr_hpo.report.facts import Facts, NothingToDraw
from oialr_hpo.report.look import AMBER, BLUE, DARK, GREY, LIGHT, ORANGE, RED, hover
from oialr_hpo.runs.scoring import scores
from oialr_hpo.runs.trial import State, Trial

TITLE = "Trials that run now: {goals}"


def draw(facts: Facts) -> tuple[go.Figure, str]:
    """A line per running trial, over its epochs, before those of the trials that have ended."""
    running = [trial for trial in facts.trials if trial.state is State.RUNNING]
    if not running:
        raise NothingToDraw("No trial is running.")
    reached = [f"trial {t.number} on rank {t.worker} at epoch {_epoch(t)} of {_epochs(facts, t)}" for t in running]
    caption = f"{'; '.join(reached)}."
    curves = {trial.number: _curve(facts, trial) for trial in facts.trials}
    if not any(curves[trial.number] for trial in running):
        raise NothingToDraw(f"{caption} No first epoch has ended yet.")
    goals, colors = list(facts.goals), cycle((BLUE, ORANGE, RED, AMBER, DARK, GREY))
    figure = make_subplots(len(goals), 1, shared_xaxes=True, vertical_spacing=0.08)
    for trial in sorted(facts.trials, key=lambda trial: trial.state is State.RUNNING):
        runs, curve = trial.state is State.RUNNING, curves[trial.number]
        color = next(colors) if runs else LIGHT
        for row, goal in enumerate(goals) if curve else ():
            figure.add_scatter(
                x=[epoch for epoch, _ in curve],
                y=[values[row] for _, values in curve],
                mode="lines+markers" if runs else "lines",
                line={"color": color, "width": 2.5 if runs else 1},
                name=f"trial {trial.number}",
                showlegend=runs and row == 0,
                hovertemplate=f"epoch %{{x}}: {goal} %{{y:.4g}}<br>{hover(trial)}<extra></extra>" if runs else None,
                hoverinfo=None if runs else "skip",
                row=row + 1,
                col=1,
            )
    for row, goal in enumerate(goals):
        figure.update_yaxes(title_text=goal, row=row + 1, col=1)
    figure.update_xaxes(title_text="epoch", row=len(goals), col=1)
    figure.update_layout(height=90 + 270 * len(goals), showlegend=True)
    return figure, caption + (" Grey: trials that have ended." if len(running) < len(facts.trials) else "")


def _epoch(trial: Trial) -> int:
    return trial.epochs[-1]["epoch"] if trial.epochs else 0


def _epochs(facts: Facts, trial: Trial) -> int:
    return facts.experiment.epochs(trial.settings)


def _curve(facts: Facts, trial: Trial) -> list[tuple[int, list[float]]]:
    """Epochs and their scores, as far as they have some."""
    found = []
    for record in trial.epochs:
        try:
            values = scores(record, facts.experiment.score)
        except KeyError:
            continue
        if all(map(math.isfinite, values)):
            found.append((record["epoch"], values))
    return found
