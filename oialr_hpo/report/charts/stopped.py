"""Scores over the epochs, of those that went on and those that did not."""

import plotly.graph_objects as go
from optuna import visualization

from oialr_hpo.report import study
from oialr_hpo.report.facts import Facts, NothingToDraw
from oialr_hpo.report.look import AMBER, BLUE, log_if_wide
from oialr_hpo.runs.trial import State

TITLE = "What was stopped early: {goal}"


def draw(facts: Facts) -> tuple[go.Figure, str]:
    """The first goal's score, with a cross where a trial was stopped, and the epochs that were saved."""
    pruned = [trial for trial in facts.searched if trial.state in (State.PAUSED, State.PRUNED)]
    if not facts.experiment.early_stopping.enabled:
        raise NothingToDraw("Early stopping was off: every trial ran to its end.")
    if not pruned:
        raise NothingToDraw("No trial was stopped early.")
    goal, aim = next(iter(facts.goals.items()))
    figure = visualization.plot_intermediate_values(study.derive(facts.searched, facts.experiment, {goal: aim}))
    cut = {f"Trial{trial.number}" for trial in pruned}
    named = set()
    for trace in figure.data:
        early = trace.name.split()[0] in cut
        name = "stopped early" if early else "ran on"
        trace.update(
            line={"color": AMBER if early else BLUE, "width": 1.6 if early else 1.0},
            mode="lines+markers",
            marker={"size": [0] * (len(trace.x) - 1) + [8 if early else 0], "color": AMBER, "symbol": "x"},
            opacity=1.0 if early else 0.55,
            hovertemplate=f"{trace.name}, epoch %{{x}}: %{{y:.4g}}<extra></extra>",
            name=name,
            legendgroup=name,
            showlegend=name not in named,
        )
        named.add(name)
    values = [y for trace in figure.data for y in trace.y]
    log_if_wide(figure, values)
    figure.update_layout(showlegend=True)
    figure.update_xaxes(title_text="epoch")
    figure.update_yaxes(title_text=goal)
    run = sum(trial.epochs[-1]["epoch"] for trial in pruned if trial.epochs)
    whole = sum(facts.experiment.epochs(trial.settings) for trial in pruned)
    done = sum(trial.epochs[-1]["epoch"] for trial in facts.trials if trial.epochs)
    return figure, (
        f"{len(pruned)} of {len(facts.searched)} trials were stopped at the crosses: {whole - run} epochs saved, where "
        f"{done} were trained ({(whole - run) / (whole - run + done):.0%} of the whole)."
    )
