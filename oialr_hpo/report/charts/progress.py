"""Every scored trial at its end, and the best so far."""

from collections.abc import Iterable

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from oialr_hpo.report.facts import Facts, NothingToDraw
from oialr_hpo.report.look import COLORS, DARK, GREY, ORANGE, WORDS, hover, log_if_wide, unit_of_time
from oialr_hpo.report.study import Aims
from oialr_hpo.runs.ranking import Leading, Standing
from oialr_hpo.runs.trial import State, Trial

TITLE = "{goals}, over time and over compute"
SYMBOLS = {State.COMPLETE: "circle", State.PAUSED: "cross-thin-open", State.PRUNED: "x-thin-open"}


def draw(facts: Facts) -> tuple[go.Figure, str]:
    """Every scored trial at its end, and the best so far, over the clock and over the workers' added time."""
    ends = {span.trial: span.ended for span in sorted(facts.spans, key=lambda span: span.ended)}
    ended = sorted((each for each in facts.searched if each.number in ends), key=lambda trial: ends[trial.number])
    scored = [trial for trial in ended if trial.scores and trial.state in SYMBOLS]
    if not scored:
        raise NothingToDraw("No trial has a score yet.")
    began = min(span.began for span in facts.run.spans())
    moments = {trial.number: ends[trial.number] for trial in ended}
    unit, seconds = unit_of_time(max(moments.values()) - began)
    spent = {number: sum(span.training(t) for span in facts.spans) for number, t in moments.items()}
    unit_spent, seconds_spent = unit_of_time(max(spent.values()))
    added = f"{unit_spent} of training, added up over the workers"
    axes = [
        ({number: (t - began) / seconds for number, t in moments.items()}, f"{unit} since the start"),
        ({number: s / seconds_spent for number, s in spent.items()}, added),
    ]
    leaders = _leaders(ended)
    goals = list(facts.goals)
    figure = make_subplots(len(goals), 2, shared_yaxes=True, horizontal_spacing=0.04, vertical_spacing=0.14)
    for row, goal in enumerate(goals):
        values = [trial.scores[row] for trial in scored]
        for column, (x, label) in enumerate(axes):
            place = {"row": row + 1, "col": column + 1}
            first = row == column == 0
            for state, symbol in SYMBOLS.items():
                chosen = [trial for trial in scored if trial.state is state]
                if chosen:
                    figure.add_scatter(
                        x=[x[trial.number] for trial in chosen],
                        y=[trial.scores[row] for trial in chosen],
                        mode="markers",
                        marker={"color": COLORS[state], "symbol": symbol, "size": 7, "line": {"width": 1.5}}
                        if state is not State.COMPLETE
                        else {"color": COLORS[state], "size": 7, "opacity": 0.75},
                        name=WORDS.get(state, state.value),
                        text=[hover(trial) for trial in chosen],
                        hovertemplate="%{text}<extra></extra>",
                        showlegend=first,
                        **place,
                    )
            better = min if facts.goals[goal].direction == "minimize" else max
            steps = [(x[number], better(each.scores[row] for each in front)) for number, front in leaders]
            if steps:
                figure.add_scatter(
                    x=[*(t for t, _ in steps), max(x.values())],
                    y=[*(value for _, value in steps), steps[-1][1]],
                    mode="lines",
                    line={"shape": "hv", "color": DARK, "width": 2},
                    name="best so far",
                    hoverinfo="skip",
                    showlegend=first,
                    **place,
                )
            for trial, name, color in ((facts.untuned, "untuned", ORANGE), (facts.dense, "dense", GREY)):
                if trial:
                    figure.add_scatter(
                        x=[0, max(x.values())],
                        y=[trial.scores[row]] * 2,
                        mode="lines",
                        line={"dash": "dash", "color": color, "width": 1.5},
                        name=name if len(goals) > 1 else f"{name}: {trial.scores[row]:.4g}",
                        hoverinfo="skip",
                        showlegend=first,
                        **place,
                    )
            if row == len(goals) - 1:
                figure.update_xaxes(title_text=label, rangemode="tozero", **place)
        log_if_wide(figure, values, row=row + 1)
        figure.update_yaxes(title_text=goal, row=row + 1, col=1)
    figure.update_layout(height=90 + 310 * len(goals))
    caption = f"{_better(facts.goals)} Each mark is a trial where it ended."
    if any(trial.state is not State.COMPLETE for trial in scored):
        caption += " Crosses were stopped early, or wait, and show the score of their last epoch: they do not compete."
    if any(len(each.counted) > 1 for _, front in leaders for each in front):
        caption += (
            " The line is the score that the best settings had then: the mean, where they were tried more than once;"
            " those that were trained again as finalists count by that alone, and before all others."
        )
    return figure, caption


def _leaders(ended: Iterable[Trial]) -> list[tuple[int, list[Standing]]]:
    """After each trial, by its number, the best settings, or with several goals the front; once there are some."""
    leading, found = Leading(), []
    for trial in ended:
        leading.add(trial)
        if leading.front:
            found.append((trial.number, leading.front))
    return found


def _better(aims: Aims) -> str:
    """Which way is better, in a sentence."""
    words = {name: "lower" if aim.direction == "minimize" else "higher" for name, aim in aims.items()}
    if len(set(words.values())) == 1:
        return f"{next(iter(words.values())).capitalize()} is better."
    return f"Better is {', '.join(f'{word} {name}' for name, word in words.items())}."
