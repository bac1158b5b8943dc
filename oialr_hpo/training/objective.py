"""One trial: settings -> training -> one record of metrics per epoch."""

import json
import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oialr_hpo.experiment import Experiment
from oialr_hpo.tasks import Split, Task, load_task
from oialr_hpo.training.replica import Replica

if TYPE_CHECKING:
    import torch

    from oialr_hpo.training.sizes import Dense


def evaluate(
    experiment: Experiment,
    *,
    seed: int,
    worker: int = 0,
    threads: int = 1,
    data_dir: Path | None = None,
    split: Split = "validation",
    checkpoint: Path | None = None,
    weights: Path | None = None,
    replica: Replica | None = None,
) -> Generator[dict[str, Any], Any, None]:
    """Train an experiment and measure it after every epoch.

    Args:
        experiment: with the trial's settings in place.
        seed: of the initialisation, the batches and the augmentation.
        worker: index of the worker among those of this node; it chooses the device.
        threads: CPU threads; on a CPU part of what makes a run repeatable to the bit.
        data_dir: where data sets lie.
        split: `validation` as a search does, `test` to report settings that are chosen.
        checkpoint: file to go on from, if it exists, and to keep the training in when it is interrupted.
        weights: safetensors file for the trained network.
        replica: of a trial that several processes train together, each of which calls this: which one this is.

    Yields:
        the records of `oialr_hpo.training.loop.train`, which says what sending to this generator does.
    """
    began = time.perf_counter()
    import torch  # here, so that the processes which only propose settings never load torch

    from oialr_hpo.training import devices
    from oialr_hpo.training.data_parallel import joined
    from oialr_hpo.training.loop import train

    torch.set_num_threads(threads)
    device = devices.choose(worker)
    task = build_task(experiment, seed=seed, device=device, data_dir=data_dir, split=split)
    dense = dense_network(experiment, data_dir, device)
    with joined(replica) as replicas:
        yield from train(experiment, task, seed, device, checkpoint, replicas, weights, dense, began)


def dense_network(experiment: Experiment, data_dir: Path | None, device: "torch.device") -> "Dense":
    """The network that percents refer to; without parameters, where it is the experiment's own.

    Raises:
        DataError: the data is missing.
    """
    from oialr_hpo.training.flops import flops_of_a_sample
    from oialr_hpo.training.sizes import Dense, count

    own = all(experiment.value(key) == value for key, value in experiment.reference.items())
    compared = experiment if own else experiment.with_settings(experiment.reference)
    key = json.dumps([compared.task, compared.data, compared.model], sort_keys=True, default=str)
    dense = _DENSE.setdefault(key, Dense())
    if not own and dense.parameters is None:
        task = build_task(compared, seed=0, device=device, data_dir=data_dir)
        network = task.build_model().to(device)
        dense.parameters = count(network.parameters())
        dense.flops = flops_of_a_sample(task, network, device) or 0.0
    return dense


_DENSE: dict[str, "Dense"] = {}
"""By what makes a network: many trials of one process are compared with the same."""


def build_task(
    experiment: Experiment, *, seed: int, device: "torch.device", data_dir: Path | None, split: Split = "validation"
) -> Task:
    """What an experiment trains, with its data loaded.

    Raises:
        LookupError: there is no such task.
        DataError: the data is missing.
    """
    task_class = load_task(experiment.task)
    return task_class(
        task_class.Settings.model_validate({"data": experiment.data, "model": experiment.model}),
        batch_size=experiment.training.batch_size,
        seed=seed,
        device=device,
        data_dir=data_dir,
        split=split,
    )
