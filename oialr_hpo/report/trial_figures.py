"""Pictures of one trial over its epochs: stability and similarity of its layers' weights, their ranks, its course."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from oialr_hpo.experiment import Experiment
from oialr_hpo.mistake import Mistake
from oialr_hpo.report import training_curves
from oialr_hpo.report.course import Course
from oialr_hpo.report.heat_map import BLUE, GREY, Values, frame, heat_map, legend, mark_change_over, mean_below
from oialr_hpo.runs import layers as layers_of
from oialr_hpo.runs.files import RunDirectoryError
from oialr_hpo.runs.trial import Trial

HEADINGS = {
    "ranks": "Rank of the low-rank layers",
    "widths": "Width of the narrower layers",
    "densities": "Density of the sparse layers",
}
MEASURES = {"stability": "Stability of the weights' bases", "similarity": "Similarity of the weights' mixing"}

Records = Sequence[Mapping[str, Any]]


class NothingRecorded(Mistake):
    """The trial holds nothing to draw; the message says what to do."""


def write(course: Course, out: Path, beside: Sequence[Course] | None = None) -> list[Path]:
    """Draw a trial's stability, similarity and ranks, as far as it recorded them, as PNG files.

    Args:
        beside: the trainings, if only none, that its course is drawn beside; None: that is not drawn.

    Raises:
        RunDirectoryError: `out` cannot be written.
        NothingRecorded: the trial recorded nothing of what is drawn.
    """
    trial = course.trial
    figures = draw(trial, course.experiment, f"{course.run.name}, trial {trial.number} (seed {trial.seed})")
    if beside is not None and (curves := training_curves.draw([course, *beside])):
        figures["training"] = curves
    if not figures:
        raise NothingRecorded(
            f"{course.run.path}: trial {trial.number} has {len(trial.epochs)} epochs without ranks, stability or "
            f"similarity; choose another --trial, or train with --set training.track=5 for more than 5 epochs"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        paths = []
        for name, figure in figures.items():
            paths.append(out / f"trial-{trial.number:04d}-{name}.png")
            figure.savefig(paths[-1], dpi=200)
        return paths
    except OSError as error:
        raise RunDirectoryError(f"{out} cannot be written: {error.strerror}; choose another --out") from None


def draw(trial: Trial, experiment: Experiment, name: str) -> dict[str, Figure]:
    """The figures that a trial's records allow, by name: stability, similarity, ranks."""
    records = trial.epochs
    change_over = next((record["epoch"] for record in records if layers_of.kept(record)), None)
    figures = {}
    for measure, title in MEASURES.items():
        tracked = [record for record in records if record.get(measure) and isinstance(record[measure], Mapping)]
        layers, values = table(tracked, measure) if tracked else ([], np.empty(0))
        if np.isfinite(values).any():
            apart = experiment.training.track
            other = "the one before" if apart == 1 else f"{apart} epochs before"
            figure, heat, below = frame(len(layers), f"{title}, each epoch against {other}\n{name}")
            low = math.floor(20 * np.nanmin(values)) / 20
            heat_map(figure, heat, epochs(tracked), layers, values, "viridis", (low, 1.0), measure)
            mean_below(below, epochs(tracked), values, measure)
            mark_change_over(heat, below, change_over, epochs(tracked))
            figures[measure] = figure
    if change_over is not None:
        figures[layers_of.kind(records[-1])] = draw_layers(records, change_over, name)
    return figures


def draw_layers(records: Records, change_over: int, name: str) -> Figure:
    """What is left of each layer, such as rank over full rank, and the sizes of the network below."""
    kind, kept = layers_of.kind(records[-1]), [layers_of.kept(record) for record in records]
    layers = list(next(each for each in kept if each))
    full = layers_of.full(records, layers)
    values = np.array([[100 * each.get(layer, math.nan) / full[layer] for each in kept] for layer in layers])
    figure, heat, below = frame(len(layers), f"{HEADINGS[kind]}\n{name}")
    heat.set_facecolor("0.9")
    if change_over > epochs(records)[0]:
        middle = (epochs(records)[0] + change_over - 1) / 2
        heat.text(middle, (len(layers) - 1) / 2, "dense", color="0.4", ha="center", va="center", rotation=90)
    measured = f"{layers_of.ONE[kind]}, % of full {layers_of.ONE[kind]}"
    heat_map(figure, heat, epochs(records), layers, values, "YlGnBu_r", (0.0, 100.0), measured)
    for key, color, text in (("total_percent", GREY, "all"), ("trainable_percent", BLUE, "trained")):
        sizes = [record.get(key, math.nan) for record in records]
        below.plot(epochs(records), sizes, color=color, drawstyle="steps-mid", label=f"{text}: {sizes[-1]:.3g} %")
    below.set_ylim(bottom=0)
    below.set_ylabel("parameters,\n% of the dense\nnetwork's", fontsize=8)
    legend(below)
    mark_change_over(heat, below, change_over, epochs(records))
    return figure


def table(records: Records, measure: str) -> tuple[list[str], Values]:
    """Layer names, and a row per layer with a column per record (NaN where a record lacks the layer)."""
    layers = list(records[0][measure])
    return layers, np.array([[record[measure].get(layer, math.nan) for record in records] for layer in layers], float)


def epochs(records: Records) -> list[int]:
    return [record["epoch"] for record in records]
