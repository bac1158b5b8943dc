"""A heat map for each of the best trials: a row per layer, a column per epoch."""

import math

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from oialr_hpo.report.facts import Facts, NothingToDraw
from oialr_hpo.runs import layers as layers_of

TITLE = "Rank per layer of the best trials"


def title(facts: Facts) -> str:
    """In the words of the method that was searched."""
    last = next((trial.epochs[-1] for trial in facts.winners if trial.epochs), {})
    return TITLE.replace("Rank", layers_of.ONE[layers_of.kind(last)].capitalize())


def draw(facts: Facts) -> tuple[go.Figure, str]:
    """What is left, such as rank over full rank; grey where the layer is dense."""
    shown = [trial for trial in facts.winners if any(map(layers_of.kept, trial.epochs))]
    if not shown:
        raise NothingToDraw("None of the best trials went over to low rank.")
    one = layers_of.ONE[layers_of.kind(shown[0].epochs[-1])]
    layers = list(dict.fromkeys(layer for t in shown for record in t.epochs for layer in layers_of.kept(record)))
    titles = [
        f"trial {trial.number}, trainable {trial.metrics.get('trainable_percent', math.nan):.3g} %" for trial in shown
    ]
    figure = make_subplots(1, len(shown), shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.02)
    for column, trial in enumerate(shown, 1):
        full = layers_of.full(trial.epochs, layers)
        rows = [[layers_of.kept(record).get(layer) for record in trial.epochs] for layer in layers]
        share = [
            [None if left is None else 100 * left / full[layer] for left in row]
            for layer, row in zip(layers, rows, strict=True)
        ]
        figure.add_heatmap(
            z=share,
            x=[record["epoch"] for record in trial.epochs],
            y=layers,
            text=[["dense" if left is None else f"{one} {left}" for left in row] for row in rows],
            hovertemplate="%{y}, epoch %{x}: %{text}<extra></extra>",
            zmin=0,
            zmax=100,
            colorscale="YlGnBu",
            reversescale=True,
            showscale=column == len(shown),
            colorbar={"title": f"% of full {one}", "thickness": 12},
            row=1,
            col=column,
        )
        figure.update_xaxes(title_text="epoch", row=1, col=column)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_layout(height=160 + min(18 * max(len(layers), 8), 1100), plot_bgcolor="#eceff2")
    return figure, "Layers from input to output. The grey part is dense: before the change-over."
