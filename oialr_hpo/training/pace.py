"""How fast an experiment trains on this device."""

import time
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from oialr_hpo.experiment import Experiment
from oialr_hpo.methods import Loop, name_of
from oialr_hpo.tasks import Task
from oialr_hpo.training import devices
from oialr_hpo.training.data_parallel import Replicas
from oialr_hpo.training.loop import attach
from oialr_hpo.training.objective import build_task
from oialr_hpo.training.optimizer import make_optimizer
from oialr_hpo.training.step import Stepper

SECONDS = 2.0
"""How long steps of either network are made for; one at least."""


def measure(
    experiment: Experiment, *, seed: int, worker: int = 0, threads: int = 1, data_dir: Path | None = None, **_: Any
) -> Iterator[dict[str, Any]]:
    """Time some steps of the dense network and of the experiment's method, and an evaluation.

    Its arguments are those of an objective, see `oialr_hpo.training.objective.evaluate`. A method with a delay begins
    at once, so that its steps are those just after the change-over: later ones are hardly slower.

    Yields:
        one record: setup_seconds (of the data and the network), dense_seconds and small_seconds (an epoch's steps and
        waiting for their batches), evaluation_seconds (of the validation split), seconds (that all of this took), and
        gpus, how many there are.
    """
    torch.set_num_threads(threads)
    device = devices.choose(worker)

    def build() -> tuple[Task, nn.Module]:
        task = build_task(experiment, seed=seed, device=device, data_dir=data_dir)
        return task, task.build_model().to(device)

    build()  # what is imported and kept then is there for all trainings of the process
    called = time.perf_counter()
    task, model = build()
    setup = time.perf_counter() - called
    dense = _epoch(experiment.with_settings({"method": "dense"}), task, seed, device)
    delay = f"{name_of(experiment.method)}.delay"
    at_once = {delay: 0} if hasattr(experiment.method_settings, "delay") else {}
    small = _epoch(experiment.with_settings(at_once), task, seed, device)
    began = time.perf_counter()
    if task.validates:
        model.eval()
        with torch.no_grad(), devices.autocast(device, experiment.training.precision):
            task.evaluate(model, "validation")
    evaluation = time.perf_counter() - began
    seconds = {"setup": setup, "dense": dense, "small": small, "evaluation": evaluation}
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    named = {f"{name}_seconds": value for name, value in seconds.items()}
    yield {"epoch": 1, **named, "seconds": time.perf_counter() - called, "gpus": gpus}


def _epoch(experiment: Experiment, task: Task, seed: int, device: torch.device) -> float:
    """Seconds that an epoch's steps take, as some of them tell; the first one is not counted."""
    torch.manual_seed(seed)
    model, settings = task.build_model().to(device), experiment.training
    optimizer = make_optimizer(model, settings, experiment.schedule.lr)
    per_epoch = -(-task.steps_per_epoch // settings.accumulation_steps)
    total = settings.epochs * per_epoch
    loop = Loop(model, optimizer, task.loss, total, per_epoch, [], lambda: iter(task.train_batches(1)))
    stepper = Stepper(model, attach(experiment, loop), settings, device, Replicas())
    model.train()
    stepper.step(iter(task.train_batches(1)), 1)
    joined = min(settings.accumulation_steps, task.steps_per_epoch)
    batches = (batch for epoch in count(2) for batch in islice(task.train_batches(epoch), task.steps_per_epoch))
    _synchronise(device)
    began, tried = time.perf_counter(), 0  # in float16 some are not made
    while not tried or time.perf_counter() - began < SECONDS:
        stepper.step(batches, joined)
        tried += 1
    _synchronise(device)
    return (time.perf_counter() - began) / tried * per_epoch


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
