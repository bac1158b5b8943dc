"""The one training loop, for searches and for `train` alike."""

import math
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from oialr_hpo.experiment import Experiment
from oialr_hpo.methods import Loop, Method, load_method, name_of
from oialr_hpo.mistake import warn
from oialr_hpo.oialr.stability import Tracker
from oialr_hpo.optimization import make_schedule
from oialr_hpo.runs.record import metrics, table
from oialr_hpo.tasks import Split, Task
from oialr_hpo.training import devices
from oialr_hpo.training.checkpoint import Checkpoint
from oialr_hpo.training.data_parallel import Replicas
from oialr_hpo.training.flops import inference_flops
from oialr_hpo.training.optimizer import make_optimizer
from oialr_hpo.training.selection import Selection
from oialr_hpo.training.sizes import SIZES, Dense, count, sizes
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
    dense: Dense | None = None,
    setup_began: float | None = None,
    rehearsal: bool = False,
) -> Generator[dict[str, Any], Any, None]:
    """Train a task's model as the experiment says, one record of metrics per epoch.

    A record holds epoch, step (optimizer steps so far), lr (the largest of all layers), train_loss, train_NAME of the
    task's `training_metrics` where it has some, the task's validation metrics where it validates, parameters (frozen
    ones too), trainable_parameters, total_percent and trainable_percent (the same, of the `dense` network's; by default
    the task's network before it is converted), what is left of each layer that the method has made smaller (ranks,
    widths or densities; the first record also what the dense network has, such as full_ranks), seconds (of training and
    evaluating so far, in all sessions), setup_seconds (before that, in this session: since `setup_began`, in
    `time.perf_counter()`), device and data_wait (share of the epoch spent waiting for batches). A task that was built
    for the test split is tested once, after the last epoch; those metrics replace the validation's in the last record,
    which keeps these, and the sizes of that epoch's network, as validation. The last record of all says what the
    network costs: inference_flops and flops_percent, see `oialr_hpo.training.flops`, and step_milliseconds (an
    optimizer step, the mean over all sessions, without waiting for batches). Where weights are tracked, a record holds
    track_share (of the epoch's time) and, once there is something to compare with, stability and similarity per layer.
    Where weights are averaged (`training.ema_decay`), the average is what is measured and kept.

    With a `checkpoint`, training goes on from that file if it exists, with the epoch after its last, and keeps it up
    to date every `CHECKPOINT_SECONDS`. Anything but None that is sent to this generator ends the training after saving
    one: an interruption. A finished training leaves its network's weights in the file `weights`, which the method's
    `load_weights` reads (`oialr_hpo.oialr.load_low_rank`, of OIALR).

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
    dense = dense or Dense()
    dense_parameters = dense.parameters or count(model.parameters())
    first_replica = replicas.rank == 0
    trained = replicas.wrap(model, device)
    if not first_replica:
        torch.manual_seed(seed + (replicas.rank << 32))  # of dropout, over other samples than the first one's
    settings = experiment.training
    optimizer = make_optimizer(model, settings, experiment.schedule.lr)
    per_epoch = math.ceil(task.steps_per_epoch / settings.accumulation_steps)
    total = settings.epochs * per_epoch
    set_rate = make_schedule(experiment.schedule, optimizer, total, per_epoch)
    average = make_average(model, settings)
    averages: list[nn.Module] = [average] if average else []
    loop = Loop(trained, optimizer, task.loss, total, per_epoch, averages, lambda: iter(task.train_batches(1)))
    method = attach(experiment, loop)
    if first_replica and not rehearsal:
        _warn_of_delay(experiment, total)
    stepper = Stepper(model, method, settings, device, replicas)
    measured: nn.Module = average.module if average else model
    chosen = Selection(experiment, measured, keeps_best=task.split == "test" and experiment.score.epoch == "best")
    others = {"scaler": stepper.scaler} | ({"average": average} if average else {})
    resumable = Checkpoint(checkpoint, model, optimizer, method, others)
    tracker = Tracker(model, method.tracked(), lag=settings.track) if settings.track and first_replica else None
    first, earlier = 1, 0.0
    if progress := resumable.load():
        first, earlier, stepper.steps = progress["epoch"] + 1, progress["seconds"], progress["step"]
        stepper.time.load_state_dict(progress.get("step_time", stepper.time.state_dict()))  # older ones have none
        if tracker:
            tracker.load_state_dict(progress["tracker"])
        with torch.random.fork_rng(enabled="kept" in progress):
            chosen.load_state_dict(progress, lambda kept: method.load_weights(task.build_model(), kept).to(device))

    setup_seconds = time.perf_counter() - setup_began
    started = time.perf_counter() - earlier
    for epoch in range(first, settings.epochs + 1):
        epoch_started, waited = time.perf_counter(), stepper.waited
        batches = iter(task.train_batches(epoch))
        train_loss = stepper.epoch(batches, 1 if rehearsal else task.steps_per_epoch, set_rate, average)
        if not math.isfinite(train_loss):
            raise Diverged(f"the training loss is {train_loss} in epoch {epoch}")
        if not rehearsal and (stepper.stuck or (stepper.steps == 0 and epoch == settings.epochs)):
            raise Diverged(f"float16 cannot hold the gradients in epoch {epoch}; use bfloat16")
        record: dict[str, Any] = {
            "epoch": epoch,
            "step": stepper.steps,
            "lr": max(group["lr"] for group in optimizer.param_groups),
            "train_loss": train_loss,
            **_of_training(task, replicas, device),
            **sizes(method.parameters(), dense_parameters),
            method.of_layers: table(method.of_layers, method.layers()),
            "device": devices.name(device),
            "data_wait": (stepper.waited - waited) / (time.perf_counter() - epoch_started),
        }
        if epoch == 1 and (full := method.full_layers()):
            record[f"full_{method.of_layers}"] = table(f"full_{method.of_layers}", full)
        validated: dict[str, Any] = {}
        if task.validates:
            if first_replica:
                validated = _evaluate(task, measured, "validation", device, settings.precision)
                record |= validated
            record = replicas.from_first(record)
            chosen.see(record)
        observed = _observe(tracker, epoch_started)
        last = rehearsal or epoch == settings.epochs or (task.validates and chosen.is_hopeless(epoch))
        if last and first_replica:
            network = method.finish(chosen.network)
            if task.split == "test":
                tested = chosen.sizes | _evaluate(task, network, "test", device, settings.precision)
                record = record | {"validation": validated | {name: record[name] for name in SIZES}} | tested
        record |= observed | {"seconds": time.perf_counter() - started, "setup_seconds": setup_seconds}
        if last and first_replica:
            record |= inference_flops(task, network, device, dense) | stepper.time.metrics()
        interrupted = yield record
        if last:
            if weights and first_replica:
                save_weights(network, weights, describe(experiment, seed, task.split, record))
            return
        if first_replica and (interrupted is not None or resumable.due()):
            progress = {"epoch": epoch, "step": stepper.steps, "seconds": time.perf_counter() - started}
            timed = {"step_time": stepper.time.state_dict()}
            of_tracker = {"tracker": tracker.state_dict()} if tracker else {}
            resumable.save(progress | timed | chosen.state_dict() | of_tracker, needed=interrupted is not None)
        if interrupted is not None:
            return


def attach(experiment: Experiment, loop: Loop) -> Method:
    """The experiment's method at work in a training.

    Raises:
        ValueError: it does not fit the network or the length of the run.
    """
    return load_method(experiment.method)(experiment.method_settings, loop)


def _warn_of_delay(experiment: Experiment, total_steps: int) -> None:
    """Where the network stays as it is to the end."""
    change_over = experiment.method_settings.change_over(total_steps)
    if change_over is not None and change_over > total_steps:
        name = name_of(experiment.method)
        said = f"{name}.delay ends at step {change_over}, the run after {total_steps}: the network gets no smaller"
        warn(f"{said}; shorten the delay, or give it as a fraction of the run")


def _of_training(task: Task, replicas: Replicas, device: torch.device) -> dict[str, float]:
    """What a task saw of the epoch's batches, over all processes."""
    seen = task.training_metrics() if hasattr(task, "training_metrics") else {}
    sums = {name: [replicas.mean(torch.as_tensor(part, device=device).float()) for part in seen[name]] for name in seen}
    return {f"train_{name}": total / number for name, (total, number) in sums.items() if number > 0}


def _observe(tracker: Tracker | None, epoch_started: float) -> dict[str, Any]:
    """How the weights compare with earlier ones, and the share of the epoch that it took."""
    if tracker is None:
        return {}
    before = tracker.seconds
    compared = tracker.observe()
    return {**compared, "track_share": (tracker.seconds - before) / (time.perf_counter() - epoch_started)}


def _evaluate(task: Task, model: nn.Module, split: Split, device: torch.device, precision: str) -> dict[str, Any]:
    model.eval()
    with torch.no_grad(), devices.autocast(device, precision):
        return metrics(task.evaluate(model, split))
