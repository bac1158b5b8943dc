"""A network cut down to its utilized ranks, and trained on: how small it is, and how accurate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from oialr_hpo.experiment import Experiment
from oialr_hpo.training import devices
from oialr_hpo.training.loop import train
from oialr_hpo.utilization.factorisation import compact, factorise, flops, parameters
from oialr_hpo.utilization.found import Utilization


@dataclass(frozen=True)
class Reduction:
    """A factorised network beside the original.

    Attributes:
        finetuned: its accuracy after fine-tuning, in percent; None: there was none.
        parameters, flops: ratios to those of the original.
        original_parameters, original_flops: these, a forward pass of one image.
    """

    finetuned: float | None
    parameters: float
    flops: float
    original_parameters: int
    original_flops: int


def reduce(
    network: nn.Module, found: Utilization, experiment: Experiment, task: Any, epochs: int, lr: float
) -> Reduction:
    """Cut a network down to what was found of it, and fine-tune that for `epochs`, if there are any; see `finetune`."""
    reduced = factorise(found.model, found.ranks)
    finetuned = finetune(reduced, experiment, task, epochs, lr) if epochs else None
    images = next(iter(task.evaluation_batches()))[0][:1]
    small = compact(reduced).eval()
    before = parameters(network), flops(network, images)
    return Reduction(finetuned, parameters(small) / before[0], flops(small, images) / before[1], *before)


def finetune(network: nn.Module, experiment: Experiment, task: Any, epochs: int, lr: float) -> float:
    """Trains a factorised network, as its two-layer shapes keep its ranks; the accuracy after the last epoch, percent.

    With the experiment's optimizer, batches and augmentation, and a learning rate that decays from `lr` to zero.
    """
    changes = {"lr": lr, "min_lr": 0.0, "warmup_lr": 0.0, "warmup": 0, "cooldown": 0, "k_decay": 1.0, "name": "cosine"}
    settings = {f"schedule.{key}": value for key, value in changes.items()}
    settings |= {"method": "dense", "training.epochs": epochs, "training.patience": None, "training.track": 0}
    task.build_model = lambda: network
    top1 = 0.0
    for record in train(experiment.with_settings(settings), task, experiment.seed, devices.choose(0)):
        top1 = record["top1"]
        print(f"fine-tuning  epoch {record['epoch']}/{epochs}  train_loss {record['train_loss']:.4g}  top1 {top1:.2f}")
    return top1
