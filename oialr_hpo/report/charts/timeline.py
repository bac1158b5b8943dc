"""A row per worker, a bar per trial."""

import plotly.graph_objects as go

from oialr_hpo.report.facts import Facts, NothingToDraw
from oialr_hpo.report.look import COLORS, WORDS, unit_of_time
from oialr_hpo.runs.printing import clock

TITLE = "Use of the workers"


def draw(facts: Facts) -> tuple[go.Figure, str]:
    """Each trial from its start to its end, and the share of every worker's time that it trained."""
    spans = facts.run.spans()
    if not facts.spans:
        raise NothingToDraw("No trial has ended yet.")
    began, ended = min(span.began for span in spans), max(span.ended for span in spans)
    unit, seconds = unit_of_time(ended - began)
    by_number = {trial.number: trial for trial in facts.trials}
    workers = sorted({span.worker for span in spans})
    labels = {}
    for worker in workers:
        held = sum(s.seconds for s in spans if s.worker == worker and s.trial is None)
        busy = sum(s.training() for s in facts.spans if s.worker == worker)
        labels[worker] = f"rank {worker}: {busy / held:.0%}" if held else f"rank {worker}"
    figure = go.Figure()
    for state, color in COLORS.items():
        chosen = [span for span in facts.spans if by_number[span.trial].state is state]  # type: ignore[index]
        if chosen:
            figure.add_bar(
                orientation="h",
                y=[labels[span.worker] for span in chosen],
                base=[(span.began - began) / seconds for span in chosen],
                x=[span.seconds / seconds for span in chosen],
                marker={"color": color, "line": {"color": "white", "width": 1}},
                name=WORDS.get(state, state.value),
                text=[f"<b>trial {span.trial}</b>, {clock(span.seconds)}" for span in chosen],
                textposition="none",
                hovertemplate="%{text}<extra></extra>",
                showlegend=True,
            )
    figure.update_layout(barmode="overlay", bargap=0.25, height=120 + min(30 * len(workers), 1200))
    figure.update_xaxes(title_text=f"{unit} since the start", rangemode="tozero")
    figure.update_yaxes(categoryorder="array", categoryarray=[labels[worker] for worker in reversed(workers)])
    usage = facts.run.usage()
    return figure, (
        f"A bar per trial. Beside each rank the share of its time that it trained; over all "
        f"{len(workers)}: {usage.utilization or 0:.1%}."
    )
