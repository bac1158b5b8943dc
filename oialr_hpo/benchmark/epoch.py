"""`python -m oialr_hpo.benchmark epoch`: an epoch of an experiment's training, dense and low-rank, data included.

The training's own step over the task's own batches, with the batch size, augmentation, clipping and optimizer of the
file: by default the paper's mini ViT on all training images of CIFAR-10. `full` is OIALR just after its change-over;
the other rows have cut every layer to one rank, or to its full one where that is less; factors are random. Where
CIFAR-10 is absent random images stand in for it, which the first line says.

`x dense` is how many times as fast as the dense network, `share` the part of its time that is taken; `batch ms` is
what making a batch takes alone, `data` the share of the epoch in which the loop waited for it; `peak MB` is the most
that the GPU held, images and weights included. The first steps are not measured.
"""

from __future__ import annotations

import pickle
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import nn

from oialr_hpo.benchmark.measure import add_machine_options, keep_freed_memory, milliseconds, print_row
from oialr_hpo.benchmark.step import low_rank
from oialr_hpo.commands import Parser, command, positive
from oialr_hpo.experiment import Experiment, load
from oialr_hpo.methods import Loop, MethodSettings, parameters
from oialr_hpo.methods.dense import Dense
from oialr_hpo.tasks import Task
from oialr_hpo.tasks.cache import cache_directory
from oialr_hpo.tasks.image_classification.cifar import ARCHIVES
from oialr_hpo.tasks.image_classification.layouts import find_source
from oialr_hpo.training.data_parallel import Replicas
from oialr_hpo.training.objective import build_task
from oialr_hpo.training.optimizer import make_optimizer
from oialr_hpo.training.sizes import count, sizes
from oialr_hpo.training.step import Stepper

WARM_UP = 3
HEADER = ("network", "total %", "trainable %", "images/s", "ms/step", "x dense", "share", "batch ms", "data", "peak MB")


@dataclass(frozen=True)
class Epoch:
    """What an epoch's steps took, in seconds, and the most bytes that the GPU held; 0 on a CPU."""

    seconds: float
    waited: float
    peak: int


def run(model: nn.Module, task: Task, experiment: Experiment, steps: int, device: torch.device) -> Epoch:
    """Some steps of the training; `model` is on `device` already."""
    model.train()
    optimizer = make_optimizer(model, experiment.training, experiment.schedule.lr)
    loop = Loop(model, optimizer, task.loss, 2 * steps, task.steps_per_epoch, [], lambda: iter(task.train_batches(1)))
    stepper = Stepper(model, Dense(MethodSettings(), loop), experiment.training, device, Replicas())
    batches = iter(task.train_batches(1))
    for _ in range(min(WARM_UP, steps)):
        stepper.step(batches, 1)
    synchronise()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    batches, waited, started = iter(task.train_batches(2)), stepper.waited, time.perf_counter()
    for _ in range(steps):
        stepper.step(batches, 1)
    synchronise()
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return Epoch(time.perf_counter() - started, stepper.waited - waited, peak)


def alone(task: Task, steps: int) -> float:
    """Seconds that making a batch takes."""
    started = time.perf_counter()
    for _ in islice(task.train_batches(3), steps):
        pass
    synchronise()
    return (time.perf_counter() - started) / steps


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure(
    experiment: Experiment, ranks: Sequence[int], most: int | None, device: torch.device, data_dir: Path | None
) -> None:
    task = build_task(experiment, seed=0, device=device, data_dir=data_dir, split="test")
    steps, batch = min(most or sys.maxsize, task.steps_per_epoch), experiment.training.batch_size
    print(f"{steps} steps of batch {batch}, precision {experiment.training.precision}, {device}")
    print_row(HEADER, HEADER)
    making = alone(task, steps)
    dense_parameters = dense_seconds = 0.0
    for rank in (None, sys.maxsize, *ranks):
        torch.manual_seed(0)
        model = task.build_model() if rank is None else low_rank(task.build_model, ["*"], rank, rebuild=False)
        dense_parameters = dense_parameters or count(model.parameters())
        size = sizes(parameters(model.to(device)), int(dense_parameters))
        epoch = run(model, task, experiment, steps, device)
        dense_seconds = dense_seconds or epoch.seconds
        name = "dense" if rank is None else "full" if rank == sys.maxsize else f"rank {rank}"
        print_row(
            (
                name,
                f"{size['total_percent']:.1f}",
                f"{size['trainable_percent']:.2f}",
                f"{steps * batch / epoch.seconds:.0f}",
                milliseconds(epoch.seconds / steps),
                f"{dense_seconds / epoch.seconds:.2f}",
                f"{epoch.seconds / dense_seconds:.0%}",
                milliseconds(making),
                f"{epoch.waited / epoch.seconds:.0%}",
                f"{epoch.peak / 1e6:.0f}" if epoch.peak else "-",
            ),
            HEADER,
        )


def put_random_images(directory: Path) -> None:
    """CIFAR-10's official archive, unpacked, with random images and labels."""
    archive, generator = ARCHIVES["cifar10"], np.random.default_rng(0)
    folder = directory / archive.folder
    folder.mkdir()
    for name in (*(f"data_batch_{part}" for part in range(1, 6)), archive.test):
        images = generator.integers(256, size=(10_000, 3072), dtype=np.uint8)
        labels = generator.integers(archive.classes, size=10_000).tolist()
        (folder / name).write_bytes(pickle.dumps({"data": images, archive.labels: labels}))
    names = [str(number) for number in range(archive.classes)]
    (folder / archive.meta).write_bytes(pickle.dumps({archive.label_names: names}))


def absent(experiment: Experiment, data_dir: Path | None) -> bool:
    """Whether the experiment wants CIFAR-10 and it is not there."""
    if experiment.data.get("dataset") != "cifar10":
        return False
    return not any(find_source("cifar10", "train", place) for place in (data_dir, cache_directory(data_dir)))


@command
def main(arguments: Sequence[str]) -> None:
    parser = Parser("benchmark epoch", __doc__, "vit_cifar --ranks 192 --steps 20")
    parser.add_argument("file", metavar="FILE", nargs="?", default="vit_cifar", help="an experiment by name or path")
    parser.add_argument("--ranks", nargs="+", type=positive, default=[416, 192, 96], help="416: 9.96 %% trainable")
    parser.add_argument("--steps", type=positive, help="default: all of the epoch")
    parser.add_changes()
    add_machine_options(parser)
    parser.add_data_directories()
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    experiment, device = load(options.file, options.set).fixed(), torch.device(options.device)
    if not absent(experiment, options.data_dir):
        measure(experiment, options.ranks, options.steps, device, options.data_dir)
        return
    print("CIFAR-10 is absent: 60,000 random images stand in for it")
    with tempfile.TemporaryDirectory() as directory:
        put_random_images(Path(directory))
        measure(experiment, options.ranks, options.steps, device, Path(directory))
