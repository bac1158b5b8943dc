"""How long a network's step takes in bfloat16 on this CPU, beside float32."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from oialr_hpo.experiment import Experiment
from oialr_hpo.training import devices
from oialr_hpo.training.objective import build_task
from oialr_hpo.training.optimizer import make_optimizer

ROUNDS, SAMPLES = 3, 32
"""Steps each way after a first one, in turn; of so many samples at most, since large batches take their time."""


def compare(
    experiment: Experiment, *, seed: int, threads: int, data_dir: Path | None = None, **_: Any
) -> Iterator[dict[str, Any]]:
    """Take steps of the dense network in both precisions.

    Yields:
        `share`: the time in bfloat16 as a share of float32's, of the fastest steps; nothing where there are GPUs.
    """
    torch.set_num_threads(threads)
    device = devices.choose(0)
    if device.type != "cpu":
        return
    batch_size = min(SAMPLES, experiment.training.batch_size)
    small = experiment.with_settings({"training.batch_size": batch_size})
    task = build_task(small, seed=seed, device=device, data_dir=data_dir)
    model = task.build_model()
    model.train()
    optimizer = make_optimizer(model, experiment.training, experiment.schedule.lr)
    batch = next(iter(task.train_batches(1)))

    def step(precision: str) -> Callable[[], None]:
        def run() -> None:
            with devices.autocast(device, precision):
                loss = task.loss(model, batch)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        return run

    steps = {precision: step(precision) for precision in ("float32", "bfloat16")}
    best = dict.fromkeys(steps, float("inf"))
    for number in range(1 + ROUNDS):
        for precision, run in steps.items():
            began = time.perf_counter()
            run()
            if number:
                best[precision] = min(best[precision], time.perf_counter() - began)
    yield {"share": best["bfloat16"] / best["float32"]}
