"""A panel per setting, a mark per trial."""

import math

import plotly.graph_objects as go
from optuna import visualization

from oialr_hpo.report.facts import Facts, NothingToDraw
from oialr_hpo.report.look import log_if_wide, log_ticks

TITLE = "{goal}, along each setting"
PER_ROW = 4


def draw(facts: Facts) -> tuple[go.Figure, str]:
    """The first goal's score over every setting, later trials darker."""
    if not facts.complete:
        raise NothingToDraw("No searched trial is complete.")
    goal = list(facts.goals)[0]
    target = None if len(facts.goals) == 1 else lambda trial: trial.values[0]
    figure = visualization.plot_slice(facts.study, params=facts.tried, target=target, target_name=goal)
    keys = sorted(facts.tried)  # as Optuna does
    rows = math.ceil(len(keys) / PER_ROW)
    width, height = 1 / PER_ROW, 1 / rows
    for index in range(len(keys)):  # Optuna puts all of them into one row
        row, column = divmod(index, PER_ROW)
        number = str(index + 1) if index else ""
        left, top = column * width, 1 - row * height
        right = left + width - (0.03 if column < PER_ROW - 1 else 0)
        domain = [left, right], [max(0.0, top - height + (0.28 / rows if row < rows - 1 else 0)), top]
        figure.layout[f"xaxis{number}"].update(domain=domain[0], anchor=f"y{number}", title={"standoff": 4})
        figure.layout[f"yaxis{number}"].update(
            domain=domain[1],
            anchor=f"x{number}",
            matches=None if index == 0 else "y",
            showticklabels=column == 0,
            title={"text": ("score" if len(facts.goals) == 1 else goal) if column == 0 else None},
        )
        if figure.layout[f"xaxis{number}"].type == "log":
            having = [trial for trial in facts.complete if keys[index] in trial.settings]
            tried = [float(trial.settings[keys[index]]) for trial in having]  # type: ignore[arg-type]
            figure.layout[f"xaxis{number}"].update(tickvals=log_ticks(min(tried), max(tried)), exponentformat="e")
    values = [trial.scores[0] for trial in facts.complete]
    log_if_wide(figure, values)
    figure.update_traces(marker={"colorbar": {"title": "trial", "thickness": 12}, "size": 7})
    figure.update_layout(height=60 + 230 * rows, margin={"l": 80, "r": 20, "t": 20, "b": 60})
    return figure, "Each complete trial in each panel; darker marks are later trials: where the search went."
