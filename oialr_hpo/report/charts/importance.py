"""Which settings decide how good a trial is."""

import plotly.graph_objects as go

from oialr_hpo.report import study
from oialr_hpo.report.facts import Facts, NothingToDraw
from oialr_hpo.report.importance import CONFIDENCE, importances
from oialr_hpo.report.look import AMBER, BLUE, GREY, ORANGE

TITLE = "Which settings mattered"


def draw(facts: Facts) -> tuple[go.Figure, str]:
    """PED-ANOVA on the complete trials."""
    if len(facts.complete) < 4:
        raise NothingToDraw(f"Needs four complete trials; there are {len(facts.complete)}.")
    if all(trial.goals == facts.complete[0].goals for trial in facts.complete):
        raise NothingToDraw("All complete trials score alike.")
    as_minimized = study.derive(facts.searched, facts.experiment, study.minimized(facts.experiment))
    figure = go.Figure()
    for goal, (name, color) in enumerate(zip(facts.goals, (BLUE, ORANGE, GREY, AMBER), strict=False)):
        try:
            found = importances(as_minimized, facts.tried, goal)
        except (ValueError, RuntimeError) as error:
            raise NothingToDraw(f"Cannot be told from these trials: {error}") from None
        ordered = list(reversed(found.items()))  # Plotly draws from below
        shares = [each.share for _, each in ordered]
        reach = [[each.high - each.share for _, each in ordered], [each.share - each.low for _, each in ordered]]
        above, below = ([max(value, 0.0) for value in values] for values in reach)
        bars = {"array": above, "arrayminus": below, "color": GREY, "thickness": 1, "width": 3}
        keys = [key for key, _ in ordered]
        figure.add_bar(y=keys, x=shares, orientation="h", name=name, marker={"color": color}, error_x=bars)
    figure.update_layout(height=120 + 26 * len(facts.tried) * len(facts.goals), showlegend=len(facts.goals) > 1)
    figure.update_xaxes(title_text="importance", rangemode="tozero")
    figure.update_yaxes(title_text=None)
    caption = (
        "By how much the best tenth of the trials differ from all in this setting (PED-ANOVA), adding up to 1; lines: "
        f"where {CONFIDENCE:.0%} of resamples of the trials have it."
    )
    if len(facts.complete) < 10 * len(facts.keys):
        caption += f" {len(facts.complete)} complete trials for {len(facts.keys)} settings are no more than a hint."
    if facts.conditional:
        caption += " A setting that only some trials have counts by their share."
    return figure, caption
