"""An experiment's network analysed, drawn, cut down and kept in a directory, where an interrupted analysis goes on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from oialr_hpo.experiment import Experiment
from oialr_hpo.mistake import Mistake, reason
from oialr_hpo.utilization.accuracy import Accuracy
from oialr_hpo.utilization.analysis import analyse
from oialr_hpo.utilization.curves import check_layers, layer_curves
from oialr_hpo.utilization.kept import FILE, content
from oialr_hpo.utilization.layer_figure import layer_figure
from oialr_hpo.utilization.printing import layer_table, summary
from oialr_hpo.utilization.published import published
from oialr_hpo.utilization.reduction import reduce
from oialr_hpo.utilization.snapshot import save, snapshot


@dataclass(frozen=True)
class Options:
    """Of an analysis, as its command has them: images for the subspaces, epochs and learning rate of fine-tuning,
    layers that are drawn more closely, and whether each layer is searched in the original network."""

    images: int
    finetune: int
    lr: float
    layers: tuple[str, ...]
    each_alone: bool


def measure(
    network: nn.Module, experiment: Experiment, task: Any, tolerance: float, options: Options, out: Path
) -> None:
    """Analyse a network of the experiment's task, print what is found, and keep it with its pictures in `out`.

    Raises:
        Mistake: of the network, the data or the options.
    """
    images, accuracy = task.training_batches(options.images), Accuracy(task.evaluation_batches())
    check_layers(network, images, options.layers)
    out.mkdir(parents=True, exist_ok=True)
    say = partial(print, flush=True)
    try:
        found = analyse(
            network,
            images,
            accuracy,
            tolerance,
            keep_projected=not options.each_alone,
            state=out / "state.json",
            progress=say,
        )
        curves = layer_curves(network, found, images, accuracy, options.layers, say)
    except (ValueError, FloatingPointError) as error:
        raise Mistake(reason(error)) from None

    reduction = reduce(network, found, experiment, task, options.finetune, options.lr)
    name, dataset = experiment.model["name"], experiment.data["dataset"]
    row = published(name, dataset)
    print(f"\n{layer_table(found)}\n\n{summary(found, reduction, row)}")
    print(f"\n{found.passes:.1f} validation passes; a plain binary search: {found.plain_passes}")
    title = f"{name}, {dataset}, tolerance {tolerance:g} %"
    save(snapshot(found.layers, title, row), out / "snapshot.png")
    if curves:
        closer = layer_figure(curves, found.layers, found.original_accuracy, tolerance, title)
        save(closer, out / "layers.png")
        print(out / "layers.png")
    about = {"network": name, "dataset": dataset, "tolerance": tolerance, "images": options.images}
    about |= {"finetune": options.finetune, "lr": options.lr, "each_alone": options.each_alone}
    (out / FILE).write_text(json.dumps(content(found, reduction, curves, **about), indent=1))
    print(f"{out / 'snapshot.png'}\n{out / FILE}")
