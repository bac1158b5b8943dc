"""How many trials failed, and of what."""

import math
from collections import Counter

import plotly.graph_objects as go

from oialr_hpo.report.facts import Facts, NothingToDraw
from oialr_hpo.report.look import COLORS, WORDS
from oialr_hpo.runs.trial import State

TITLE = "Failures by reason"


def draw(facts: Facts) -> tuple[go.Figure, str]:
    """The most frequent reasons, each with its number of trials."""
    lost = [trial for trial in facts.trials if trial.state in (State.FAILED, State.OUT_OF_MEMORY)]
    if not lost:
        raise NothingToDraw(f"None: all {sum(trial.finished for trial in facts.trials)} finished trials have a score.")
    reasons = Counter((trial.state, trial.reason or trial.state.value) for trial in lost).most_common(20)
    figure = go.Figure()
    for state in (State.FAILED, State.OUT_OF_MEMORY):
        counted = [(reason, count) for (kind, reason), count in reasons if kind is state]
        if counted:
            figure.add_bar(
                orientation="h",
                x=[count for _, count in counted],
                y=[_clipped(reason) for reason, _ in counted],
                marker={"color": COLORS[state]},
                name=WORDS.get(state, state.value),
                hovertemplate="%{x} x %{y}<extra></extra>",
                showlegend=True,
            )
    figure.update_layout(height=120 + 34 * len(reasons), bargap=0.35)
    figure.update_xaxes(title_text="trials", rangemode="tozero", tickformat="d", dtick=_whole(reasons[0][1]))
    figure.update_yaxes(autorange="reversed")
    share, logs = len(lost) / max(1, sum(trial.finished for trial in facts.trials)), facts.run.path / "logs"
    return figure, f"{len(lost)} trials, {share:.0%} of those that ended; what they printed lies in {logs}."


def _clipped(text: str, length: int = 70) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _whole(highest: int) -> int:
    """A distance between whole ticks that makes about eight of them."""
    return max(1, 10 ** math.floor(math.log10(highest)) if highest > 8 else 1)
