"""A dense training for a share of its run, and a look at its layers."""

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from oialr_hpo.experiment import Experiment, ExperimentError
from oialr_hpo.oialr import plan
from oialr_hpo.oialr.conversion import planned_weights
from oialr_hpo.probing.observation import SHARE, TOLERANCE, Layer, Observation, settling
from oialr_hpo.runs.printing import clock
from oialr_hpo.training import devices
from oialr_hpo.training.loop import Diverged, train
from oialr_hpo.training.objective import build_task
from oialr_hpo.utilization import Accuracy, Utilization, analyse
from oialr_hpo.utilization.published import IMAGES

LOOK_BACK = 60
"""Stability compares with the weights this part of the run before: five epochs of 300, as in the paper."""


def observe(
    experiment: Experiment,
    threads: int,
    data_dir: Path | None = None,
    share: float = SHARE,
    tolerance: float = TOLERANCE,
) -> Observation:
    """Train the dense network for a share of its run and look at its layers; prints a line per epoch.

    Raises:
        ExperimentError: the training diverged.
    """
    started = time.perf_counter()
    torch.set_num_threads(threads)
    device = devices.choose(0)
    epochs = experiment.training.epochs
    lag = max(1, round(epochs / LOOK_BACK))
    probed = min(epochs, max(lag + 1, math.ceil(share * epochs)))
    dense = experiment.fixed().with_settings({"method": "dense", "training.track": lag})
    task: Any = build_task(experiment, seed=experiment.seed, device=device, data_dir=data_dir)
    torch.manual_seed(experiment.seed)
    network: nn.Module = task.build_model()
    task.build_model = lambda: network
    stability: dict[str, list[tuple[int, float]]] = {layer.name: [] for layer in plan(network) if not layer.reason}
    records = train(dense, task, experiment.seed, device)
    try:
        for record in records:
            for name, value in record.get("stability", {}).items():
                stability[name].append((record["epoch"], value))
            lowest = min(record.get("stability", {}).values(), default=None)
            shown = f"  lowest stability {lowest:.3f}" if lowest is not None else ""
            print(
                f"probe  epoch {record['epoch']}/{probed} of {epochs}  train_loss {record['train_loss']:.4g}{shown}",
                flush=True,
            )
            if record["epoch"] == probed:
                break
    except Diverged as error:
        raise ExperimentError(f"probe: {error}; lower schedule.lr") from None
    records.close()
    trained = time.perf_counter() - started
    found = None
    if hasattr(task, "evaluation_batches"):
        found = analyse(network, task.training_batches(IMAGES), Accuracy(task.evaluation_batches()), tolerance)
        print(f"probe  utilized ranks: {found.passes:.0f} validation passes, {clock(found.seconds)}", flush=True)
    return Observation(
        layers=_layers(network, stability, epochs, found),
        share=probed / epochs,
        epochs=probed,
        seconds=time.perf_counter() - started,
        training_seconds=trained,
        accuracy=found.original_accuracy if found else None,
        mlu=found.mlu if found else None,
    )


def _layers(
    network: nn.Module, stability: dict[str, list[tuple[int, float]]], epochs: int, found: Utilization | None
) -> list[Layer]:
    report = plan(network)
    names = [layer.name for layer in report if not layer.reason]
    ranks = found.ranks if found else {}
    layers = []
    for name, weight in zip(names, planned_weights(network, report), strict=True):
        rank, cutoff = ranks.get(name), None
        if rank:
            values = torch.linalg.svdvals(weight.detach().flatten(1).double())
            cutoff = (values[rank - 1] / values[0]).item()
        layers.append(Layer(name, settling(stability[name], epochs), min(weight.flatten(1).shape), rank, cutoff))
    return layers
