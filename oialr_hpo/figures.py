"""`python -m oialr_hpo.figures RUN`: pictures of a trial's weights, as in the paper's Figure 1, and of its ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from oialr_hpo.commands import Parser, command, natural, path, written
from oialr_hpo.experiment import Experiment
from oialr_hpo.mistake import Mistake
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.files import RunDirectoryError
from oialr_hpo.runs.ranking import best
from oialr_hpo.runs.trial import Trial

MEASURES = {"stability": "Stability of the weights' bases", "similarity": "Similarity of the weights' mixing"}
NAMED_ROWS = 60  # more layers than that: only some get their name
GREY, BLUE = "0.55", "#1f5fa8"

Values = NDArray[np.float64]
Records = Sequence[Mapping[str, Any]]


class NothingToDraw(Mistake):
    """The trial holds nothing to draw; the message says what to do."""


@command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = Parser("figures", __doc__.split(": ")[1])
    parser.add_argument("run", type=path, metavar="RUN", help="run directory of a search, or of train --out")
    parser.add_argument("--trial", type=natural, metavar="N", help="default: the best one, or the first if none is")
    parser.add_argument("--out", type=path, metavar="DIR", help="where to write (default: RUN/figures)")
    options = parser.parse_args(arguments)
    run, out = RunDirectory.open(options.run), options.out or options.run / "figures"
    before = set(out.glob("*.png"))
    print(written(write(run, options.trial, out), before))


def write(run: RunDirectory, number: int | None = None, out: Path | None = None) -> list[Path]:
    """Draw a trial's stability, similarity and ranks, as far as it recorded them, as PNG files.

    Raises:
        RunDirectoryError: there is no such trial, or `out` cannot be written.
        NothingToDraw: the trial recorded none of them.
    """
    trial, out = choose(run, number), out or run.path / "figures"
    figures = draw(trial, run.experiment, f"{run.name}, trial {trial.number} (seed {trial.seed})")
    if not figures:
        raise NothingToDraw(
            f"{run.path}: trial {trial.number} has {len(trial.epochs)} epochs without ranks, stability or similarity; "
            f"choose another --trial, or train with --set training.track=5 for more than 5 epochs"
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


def choose(run: RunDirectory, number: int | None) -> Trial:
    """The trial of that number; without one the best, or the first that got anywhere.

    Raises:
        RunDirectoryError: there is none.
    """
    trials = {trial.number: trial for trial in run.trials()}
    if number is not None:
        if number not in trials:
            known = f"it holds trials {min(trials)} to {max(trials)}" if trials else "it holds none yet"
            raise RunDirectoryError(f"{run.path}: no trial {number}; {known}")
        return trials[number]
    chosen = best(trials.values()) or [trial for trial in trials.values() if trial.epochs]
    if not chosen:
        raise RunDirectoryError(f"{run.path}: no trial has finished an epoch yet; wait, or --resume the search")
    return chosen[0]


def draw(trial: Trial, experiment: Experiment, name: str) -> dict[str, Figure]:
    """The figures that a trial's records allow, by name: stability, similarity, ranks."""
    records = trial.epochs
    change_over = next((record["epoch"] for record in records if record.get("ranks")), None)
    figures = {}
    for measure, title in MEASURES.items():
        tracked = [record for record in records if record.get(measure) and isinstance(record[measure], Mapping)]
        layers, values = table(tracked, measure) if tracked else ([], np.empty(0))
        if np.isfinite(values).any():
            since = f"each epoch against {experiment.training.track} epochs before"
            figure, heat, below = frame(len(layers), f"{title}, {since}\n{name}")
            low = math.floor(20 * np.nanmin(values)) / 20
            heat_map(figure, heat, epochs(tracked), layers, values, "viridis", (low, 1.0), measure)
            mean_below(below, epochs(tracked), values, measure)
            mark_change_over(heat, below, change_over, epochs(tracked))
            figures[measure] = figure
    if change_over is not None:
        figures["ranks"] = draw_ranks(records, change_over, name)
    return figures


def draw_ranks(records: Records, change_over: int, name: str) -> Figure:
    """Rank over full rank per layer, and the sizes of the network below."""
    layers = list(next(record["ranks"] for record in records if record.get("ranks")))
    highest = {layer: max(record.get("ranks", {}).get(layer, 1) for record in records) for layer in layers}
    full = highest | records[0].get("full_ranks", {})
    ranks = [record.get("ranks", {}) for record in records]
    values = np.array([[100 * each.get(layer, math.nan) / full[layer] for each in ranks] for layer in layers])
    figure, heat, below = frame(len(layers), f"Rank of the low-rank layers\n{name}")
    heat.set_facecolor("0.9")
    if change_over > epochs(records)[0]:
        middle = (epochs(records)[0] + change_over - 1) / 2
        heat.text(middle, (len(layers) - 1) / 2, "dense", color="0.4", ha="center", va="center", rotation=90)
    heat_map(figure, heat, epochs(records), layers, values, "YlGnBu_r", (0.0, 100.0), "rank, % of full rank")
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


def frame(rows: int, title: str) -> tuple[Figure, Axes, Axes]:
    """A heat map with room for so many rows, above a curve over the same epochs."""
    height = 2.2 + min(0.16 * max(rows, 8), 8.0)
    figure = Figure(figsize=(7.2, height), layout="constrained")
    grid: Any = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [height - 1.8, 1.1]})
    heat, below = grid
    heat.set_title(title, fontsize=9, pad=14)
    below.set_xlabel("epoch", fontsize=8)
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (heat, below):
        axes.tick_params(labelsize=8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    below.grid(axis="y", color="0.9")
    return figure, heat, below


def heat_map(
    figure: Figure,
    axes: Axes,
    columns: Sequence[int],
    layers: Sequence[str],
    values: Values,
    colors: str,
    limits: tuple[float, float],
    label: str,
) -> None:
    """A row per layer, input layers at the top, and a column per epoch."""
    edges = [columns[0] - 0.5, *(column + 0.5 for column in columns)]
    mesh = axes.pcolormesh(
        edges, np.arange(len(layers) + 1) - 0.5, values, cmap=colors, vmin=limits[0], vmax=limits[1], rasterized=True
    )
    axes.invert_yaxis()
    step = math.ceil(len(layers) / NAMED_ROWS)
    axes.set_yticks(range(0, len(layers), step), layers[::step], fontsize=max(4.5, min(8.0, 300 / len(layers))))
    axes.set_ylabel("layer, from input to output" + (f" (every {step}th named)" if step > 1 else ""), fontsize=8)
    bar: Any = figure.colorbar(mesh, ax=axes, pad=0.02, aspect=25)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)


def mean_below(axes: Axes, columns: Sequence[int], values: Values, label: str) -> None:
    """The mean over the layers, between the lowest and the highest tenth of them."""
    low, high = np.nanquantile(values, [0.1, 0.9], axis=0)
    axes.fill_between(columns, low, high, color=BLUE, alpha=0.18, linewidth=0, label="80 % of the layers")
    axes.plot(columns, np.nanmean(values, axis=0), color=BLUE, label="mean")
    axes.set_ylabel(label, fontsize=8)
    legend(axes)


def legend(axes: Axes) -> None:
    """To the right, below the colour bar."""
    axes.legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.05), handlelength=1.2)


def mark_change_over(heat: Axes, below: Axes, change_over: int | None, columns: Sequence[int]) -> None:
    """A line before the first epoch that ended in low rank."""
    if change_over is None or not columns[0] < change_over <= columns[-1]:
        return
    for axes in (heat, below):
        axes.axvline(change_over - 0.5, color="white", linewidth=1.6)
        axes.axvline(change_over - 0.5, color="0.15", linewidth=0.9, linestyle=(0, (4, 3)))
    heat.annotate(
        "change-over", (change_over - 0.5, 1), xycoords=heat.get_xaxis_transform(), xytext=(0, 3),
        textcoords="offset points", fontsize=7, ha="center", color="0.15",
    )  # fmt: skip


if __name__ == "__main__":
    main()
