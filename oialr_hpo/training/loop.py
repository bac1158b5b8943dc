"""The one training loop, for searches and for `train` alike."""

import copy
import math
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from oialr_hpo.experiment import Experiment, Training
from oialr_hpo.oialr import OIALR
from oialr_hpo.tasks import Split, Task
from oialr_hpo.training import devices
from oialr_hpo.training.schedule import make_schedule, steps
from oialr_hpo.trial import score

SIZES = ("total_percent", "trainable_percent", "ranks")


class Diverged(ArithmeticError):
    """The loss is no longer a number."""


def train(experiment: Experiment, task: Task, seed: int, device: torch.device) -> Iterator[dict[str, Any]]:
    """Train a task's model as the experiment says, one record of metrics per epoch.

    A record holds epoch, step (optimizer steps so far), lr, train_loss, the task's validation metrics where it
    validates, total_percent and trainable_percent (of the dense model's parameters), ranks (per low-rank layer),
    seconds (so far), device and data_wait (share of the epoch
    spent waiting for batches). A task that was built for the test
    split is tested once, after the last epoch; those metrics are added to the last record.

    On a CPU, equal seeds and thread counts give equal numbers.

    Raises:
        Diverged: the training loss became infinite or NaN.
        ValueError: the settings do not fit the length of the run.
    """
    torch.manual_seed(seed)
    model = task.build_model().to(device)
    optimizer = make_optimizer(model, experiment.training, experiment.schedule.lr)
    total = experiment.training.epochs * task.steps_per_epoch
    set_rate = make_schedule(experiment.schedule, optimizer, total, task.steps_per_epoch)
    oialr = make_oialr(experiment, model, optimizer, total)
    clip = experiment.training.clip_grad_norm
    best, best_epoch = math.inf, 0
    kept, kept_sizes = model, dict[str, Any]()  # what is tested: the last epoch's network, or the best one's copy
    step, started = 0, time.perf_counter()

    for epoch in range(1, experiment.training.epochs + 1):
        model.train()
        loss_sum, waited, epoch_started = torch.zeros((), device=device), 0.0, time.perf_counter()
        batches = iter(task.train_batches(epoch))
        for _ in range(task.steps_per_epoch):
            asked = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - asked
            set_rate(step)
            with devices.autocast(device, experiment.training.precision):
                loss = task.loss(model, batch)
            loss.backward()
            if clip > 0:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()
            if oialr:
                oialr.step()
            loss_sum += loss.detach()
            step += 1
        train_loss = loss_sum.item() / task.steps_per_epoch
        if not math.isfinite(train_loss):
            raise Diverged(f"the training loss is {train_loss} in epoch {epoch}")
        record: dict[str, Any] = {
            "epoch": epoch,
            "step": step,
            "lr": optimizer.param_groups[0]["lr"],
            "train_loss": train_loss,
            "total_percent": oialr.total_percent if oialr else 100.0,
            "trainable_percent": oialr.trainable_percent if oialr else 100.0,
            "ranks": dict(oialr.ranks) if oialr else {},
            "device": devices.name(device),
            "data_wait": waited / (time.perf_counter() - epoch_started),
        }
        if task.validates:
            record |= _evaluate(task, model, "validation", device, experiment.training.precision)
            reached = score(record, experiment.score)
            if reached < best:
                best, best_epoch = reached, epoch
                if task.split == "test" and experiment.score.epoch == "best":
                    kept, kept_sizes = copy.deepcopy(model), {name: record[name] for name in SIZES}
        patience = experiment.training.patience if task.validates else None
        last = epoch == experiment.training.epochs or bool(patience and epoch - best_epoch >= patience)
        if last and task.split == "test":
            record |= kept_sizes | _evaluate(task, kept, "test", device, experiment.training.precision)
        record["seconds"] = time.perf_counter() - started
        yield record
        if last:
            return


def make_optimizer(model: nn.Module, settings: Training, lr: float) -> torch.optim.Optimizer:
    """The optimizer of an experiment, in its fused form."""
    decay = settings.weight_decay
    if settings.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), lr=lr, momentum=settings.momentum, weight_decay=decay, fused=True)
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return kind(model.parameters(), lr=lr, weight_decay=decay, fused=True)


def make_oialr(experiment: Experiment, model: nn.Module, optimizer: torch.optim.Optimizer, total: int) -> OIALR | None:
    """OIALR as the experiment sets it for a run of `total` steps; None for the dense method."""
    if experiment.method == "dense":
        return None
    settings = experiment.oialr
    return OIALR(
        model,
        optimizer,
        delay=steps(settings.delay, total),
        frequency=max(1, steps(settings.frequency, total)),
        cutoff=settings.cutoff,
        step_fraction=settings.step_fraction,
        keep_first=settings.keep_first,
        keep_last=settings.keep_last,
    )


def _evaluate(task: Task, model: nn.Module, split: Split, device: torch.device, precision: str) -> dict[str, float]:
    model.eval()
    with torch.no_grad(), devices.autocast(device, precision):
        return task.evaluate(model, split)
