"""Which settings decide how good a trial is."""

import plotly.graph_objects as go
from optuna import visualization

from oialr_hpo.report import study
from oialr_hpo.report.facts import Facts, NothingToDraw
from oialr_hpo.report.look import AMBER, BLUE, GREY, ORANGE

TITLE = "Which settings mattered"


def draw(facts: Facts) -> tuple[go.Figure, str]:
    """PED-ANOVA on the complete trials."""
    if len(facts.complete) < 4:
        raise NothingToDraw(f"Needs four complete trials; there are {len(facts.complete)}.")
    try:
        as_minimized = study.derive(facts.searched, facts.experiment, study.minimized(facts.experiment))
        figure = visualization.plot_param_importances(as_minimized, params=facts.tried)  # low targets count as good
    except (ValueError, RuntimeError) as error:
        raise NothingToDraw(f"Cannot be told from these trials: {error}") from None
    if not any(len(trace.y or ()) for trace in figure.data):
        raise NothingToDraw("All complete trials score alike.")
    for trace, color in zip(figure.data, (BLUE, ORANGE, GREY, AMBER), strict=False):
        trace.update(marker={"color": color})
    figure.update_layout(height=120 + 26 * len(facts.tried) * len(facts.goals), showlegend=len(facts.goals) > 1)
    figure.update_xaxes(title_text="importance", rangemode="tozero")
    figure.update_yaxes(title_text=None)
    caption = "By how much the best tenth of the trials differ from all in this setting (PED-ANOVA), adding up to 1."
    if len(facts.complete) < 10 * len(facts.keys):
        caption += f" {len(facts.complete)} complete trials for {len(facts.keys)} settings are no more than a hint."
    if facts.conditional:
        caption += " A setting that only some trials have counts by their share."
    return figure, caption
