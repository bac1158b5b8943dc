"""One look for all charts: colors, words, axes, and what is shown where the mouse rests."""

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from oialr_hpo.runs.trial import State, Trial

BLUE, ORANGE, DARK, GREY, LIGHT, RED, AMBER, PALE_AMBER = (
    "#1f5fa8", "#e07b1a", "#30343a", "#8a9099", "#c9d0d8", "#c0392b", "#d8a400", "#ecd584",
)  # fmt: skip
COLORS = {
    State.COMPLETE: BLUE,
    State.PAUSED: PALE_AMBER,
    State.PRUNED: AMBER,
    State.FAILED: RED,
    State.OUT_OF_MEMORY: "#7d3c98",
    State.INTERRUPTED: GREY,
    State.RUNNING: LIGHT,
}
WORDS = {State.PRUNED: "stopped early", State.OUT_OF_MEMORY: "out of memory"}


def styled(figure: go.Figure) -> go.Figure:
    """One look for all, Optuna's plots included."""
    figure.update_layout(
        template="plotly_white",
        title=None,
        width=None,
        font={"family": "system-ui, sans-serif", "size": 12, "color": DARK},
        margin=figure.layout.margin.to_plotly_json() or {"l": 70, "r": 20, "t": 40, "b": 55},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        hoverlabel={"align": "left"},
    )
    if figure.layout.height is None:
        figure.update_layout(height=400)
    figure.update_xaxes(zeroline=False, automargin=True)
    figure.update_yaxes(zeroline=False, automargin=True)
    return figure


def log_if_wide(figure: go.Figure, values: Sequence[float], **place: Any) -> None:
    if min(values) > 0 and max(values) > 4 * min(values):
        figure.update_yaxes(type="log", tickvals=log_ticks(min(values), max(values)), **place)


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten, on a short axis also 2 and 5 times as much, from below `low` to above `high`."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if high < 50 * low else (1,)
    return [factor * 10.0**power for power in powers for factor in factors]


def unit_of_time(seconds: float) -> tuple[str, float]:
    """A unit of time in which so many seconds are a handy number."""
    return next(
        ((name, size) for name, size in (("hours", 3600), ("minutes", 60)) if seconds > 2 * size), ("seconds", 1)
    )


def hover(trial: Trial) -> str:
    lines = [f"<b>trial {trial.number}</b>: {' / '.join(f'{score:.4g}' for score in trial.scores)}"]
    if "trainable_percent" in trial.metrics:
        lines.append(f"trainable {trial.metrics['trainable_percent']:.3g} %")
    lines += [f"{key} = {_short(value)}" for key, value in trial.settings.items()]
    return "<br>".join(lines)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
