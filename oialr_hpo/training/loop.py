"""The one training loop, for searches and for `train` alike."""

import copy
import math
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from oialr_hpo.experiment import Experiment
from oialr_hpo.oialr import OIALR, load_low_rank, plan
from oialr_hpo.oialr.stability import Tracker
from oialr_hpo.optimization import make_schedule
from oialr_hpo.runs.record import metrics
from oialr_hpo.runs.scoring import goals
from oialr_hpo.section import steps
from oialr_hpo.tasks import Split, Task
from oialr_hpo.training import devices
from oialr_hpo.training.checkpoint import Checkpoint
from oialr_hpo.training.data_parallel import Replicas
from oialr_hpo.training.optimizer import make_optimizer
from oialr_hpo.training.sizes import SIZES, count, sizes
from oialr_hpo.training.step import Stepper, make_average
from oialr_hpo.training.weights import describe, save_weights


class Diverged(ArithmeticError):
    """The loss is no longer a number."""


def train(
    experiment: Experiment,
    task: Task,
    seed: int,
    device: torch.device,
    checkpoint: Path | None = None,
    replicas: Replicas = Replicas(),  # noqa: B008 (immutable)
    weights: Path | None = None,
    dense: int | None = None,
    setup_began: float | None = None,
    rehearsal: bool = False,
) -> Generator[dict[str, Any], Any, None]:
    """Train a task's model as the experiment says, one record of metrics per epoch.

    A record holds epoch, step (optimizer steps so far), lr (the largest of all layers), train_loss, the task's
    validation metrics where it validates, parameters (frozen ones too), trainable_parameters, total_percent and
    trainable_percent (the same, of `dense` parameters; by default those of the task's network before it is converted),
    ranks (per low-rank layer; the first record also full_ranks, of those to come), seconds (of training and evaluating
    so far, in all sessions), setup_seconds (before that, in this session: since `setup_began`, in
    `time.perf_counter()`), device and data_wait (share of the epoch spent waiting for batches). A task that was built
    for the test split is tested once, after the last epoch; those metrics replace the validation's in the last record,
    which keeps these, and the sizes of that epoch's network, as validation. Where weights are tracked, a record holds
    track_share (of the epoch's time) and, once there is something to compare with, stability and similarity per layer.
    Where weights are averaged (`training.ema_decay`), the average is what is measured and kept.

    With a `checkpoint`, training goes on from that file if it exists, with the epoch after its last, and keeps it up
    to date every `CHECKPOINT_SECONDS`. Anything but None that is sent to this generator ends the training after saving
    one: an interruption. A finished training leaves its network's weights in the file `weights`, which
    `oialr_hpo.oialr.load_low_rank` reads.

    In a `rehearsal` the first step is the last one, and is measured like a last epoch.

    With several `replicas`, all of them call this and get the same records; only the first one measures and saves.

    On a CPU, equal seeds and thread counts give equal numbers, interrupted or not.

    Raises:
        Diverged: the training loss became infinite or NaN, or in float16 the gradients.
        Fault: the training was interrupted or finished, and its checkpoint or its weights cannot be written.
        ValueError: the settings do not fit the length of the run.
    """
    setup_began = time.perf_counter() if setup_began is None else setup_began
    torch.manual_seed(seed)
    model = task.build_model().to(device)
    dense = dense or count(model.parameters())
    first_replica = replicas.rank == 0
    trained = replicas.wrap(model, device)
    if not first_replica:
        torch.manual_seed(seed + (replicas.rank << 32))  # of dropout, over other samples than the first one's
    optimizer = make_optimizer(model, experiment.training, experiment.schedule.lr)
    stepper = Stepper(task, model, trained, optimizer, experiment.training, device, replicas)
    joined = experiment.training.accumulation_steps
    per_epoch = math.ceil(task.steps_per_epoch / joined)
    total = experiment.training.epochs * per_epoch
    set_rate = make_schedule(experiment.schedule, optimizer, total, per_epoch)
    average = make_average(model, experiment.training)
    oialr = make_oialr(experiment, trained, optimizer, total, average)
    measured: nn.Module = average.module if average else model
    best, best_epoch = math.inf, 0
    kept, kept_sizes = measured, dict[str, Any]()  # what is tested: the last epoch's network, or the best one's copy
    first, step, earlier = 1, 0, 0.0
    others = {"scaler": stepper.scaler} | ({"average": average} if average else {})
    resumable = Checkpoint(checkpoint, model, optimizer, oialr, others)
    tracker = make_tracker(experiment, model, oialr) if first_replica else None
    if progress := resumable.load():
        first, step = progress["epoch"] + 1, progress["step"]
        best, best_epoch, earlier = progress["best"], progress["best_epoch"], progress["seconds"]
        if tracker:
            tracker.load_state_dict(progress["tracker"])
        if "kept" in progress:
            with torch.random.fork_rng():
                kept = load_low_rank(task.build_model(), progress["kept"]).to(device)
            kept_sizes = progress["kept_sizes"]

    setup_seconds = time.perf_counter() - setup_began
    started = time.perf_counter() - earlier
    for epoch in range(first, experiment.training.epochs + 1):
        model.train()
        loss_sum, losses, epoch_started = torch.zeros((), device=device), 0, time.perf_counter()
        waited, batches = stepper.waited, iter(task.train_batches(epoch))
        of_the_epoch = 1 if rehearsal else task.steps_per_epoch
        for begun in range(0, of_the_epoch, joined):
            set_rate(step)
            loss, stepped = stepper.step(batches, min(joined, of_the_epoch - begun))
            if stepped or loss.isfinite():
                loss_sum += loss
                losses += 1
            if not stepped:
                continue
            step += 1
            if oialr:
                oialr.step()
            if average:
                average.update_parameters(model)
        train_loss = replicas.mean(loss_sum) / losses if losses else math.nan
        if not math.isfinite(train_loss):
            raise Diverged(f"the training loss is {train_loss} in epoch {epoch}")
        if not rehearsal and (stepper.stuck or (step == 0 and epoch == experiment.training.epochs)):
            raise Diverged(f"float16 cannot hold the gradients in epoch {epoch}; use bfloat16")
        record: dict[str, Any] = {
            "epoch": epoch,
            "step": step,
            "lr": max(group["lr"] for group in optimizer.param_groups),
            "train_loss": train_loss,
            **sizes(model, dense),
            "ranks": dict(oialr.ranks) if oialr else {},
            "device": devices.name(device),
            "data_wait": (stepper.waited - waited) / (time.perf_counter() - epoch_started),
        }
        if epoch == 1 and oialr:
            record["full_ranks"] = {layer.name: min(layer.shape) for layer in oialr.report if not layer.reason}
        validated: dict[str, Any] = {}
        if task.validates:
            if first_replica:
                validated = _evaluate(task, measured, "validation", device, experiment.training.precision)
                record |= validated
            record = replicas.from_first(record)
            reached = goals(record, experiment.score)[0]
            if reached < best:
                best, best_epoch = reached, epoch
                if task.split == "test" and experiment.score.epoch == "best":
                    kept, kept_sizes = copy.deepcopy(measured), {name: record[name] for name in (*SIZES, "ranks")}
        patience = experiment.training.patience if task.validates else None
        last = rehearsal or epoch == experiment.training.epochs or bool(patience and epoch - best_epoch >= patience)
        if last and task.split == "test" and first_replica:
            tested = kept_sizes | _evaluate(task, kept, "test", device, experiment.training.precision)
            record = record | {"validation": validated | {name: record[name] for name in SIZES}} | tested
        if tracker:
            before = tracker.seconds
            record |= tracker.observe()
            record["track_share"] = (tracker.seconds - before) / (time.perf_counter() - epoch_started)
        record |= {"seconds": time.perf_counter() - started, "setup_seconds": setup_seconds}
        interrupted = yield record
        if last:
            if weights and first_replica:
                save_weights(kept, weights, describe(experiment, seed, task.split, record))
            return
        if interrupted is not None or resumable.due():
            seconds = time.perf_counter() - started
            progress = {"epoch": epoch, "step": step, "best": best, "best_epoch": best_epoch, "seconds": seconds}
            if tracker:
                progress["tracker"] = tracker.state_dict()
            if kept is not measured:
                progress |= {"kept": kept.state_dict(), "kept_sizes": kept_sizes}
            if first_replica:
                resumable.save(progress, needed=interrupted is not None)
        if interrupted is not None:
            return


def make_oialr(
    experiment: Experiment,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    total: int,
    average: nn.Module | None = None,
) -> OIALR | None:
    """OIALR as the experiment sets it for a run of `total` steps; None for the dense method. `average` follows it."""
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
        averages=[average] if average else [],
    )


def make_tracker(experiment: Experiment, model: nn.Module, oialr: OIALR | None) -> Tracker | None:
    """Tracks the layers that OIALR converts, or would; None where the experiment does not ask for it."""
    if not experiment.training.track:
        return None
    layers = oialr.report if oialr else plan(model)
    return Tracker(model, [layer.name for layer in layers if not layer.reason], lag=experiment.training.track)


def _evaluate(task: Task, model: nn.Module, split: Split, device: torch.device, precision: str) -> dict[str, Any]:
    model.eval()
    with torch.no_grad(), devices.autocast(device, precision):
        return metrics(task.evaluate(model, split))
