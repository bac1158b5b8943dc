"""`python -m oialr_hpo.benchmark utilization EXPERIMENT`: what the search for utilized ranks costs, plain and thrifty.

A network is trained dense, and analysed twice: with full validation passes only, and with `Accuracy`, which makes do
with parts of them. Both should find the same ranks.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import torch
from torch import nn

from oialr_hpo import experiment as experiments
from oialr_hpo.benchmark.measure import print_table
from oialr_hpo.commands import Parser, command, not_negative, positive
from oialr_hpo.experiment import Experiment
from oialr_hpo.training import devices
from oialr_hpo.training.loop import train
from oialr_hpo.utilization import Accuracy, Utilization, analyse
from oialr_hpo.utilization.images import image_task

HEADER = ["epochs", "tolerance", "accuracy", "MLU %", "same ranks", "off by, MLU", "passes", "plain", "", "time"]


@command
def main(arguments: Sequence[str]) -> None:
    parser = Parser("benchmark utilization", __doc__, "vit_digits --epochs 3 --tolerances 0.5 --seeds 4")
    parser.add_argument("experiment", metavar="EXPERIMENT", help="a name or a .yaml file, of images")
    parser.add_argument("--epochs", type=positive, nargs="+", metavar="N", help="of training (default: the file's)")
    parser.add_argument(
        "--tolerances", type=not_negative, nargs="+", default=[0.1], metavar="E", help="in percent (0.1)"
    )
    parser.add_argument("--seeds", type=positive, default=1, metavar="N", help="so many networks each (1)")
    parser.add_argument("--images", type=positive, default=20_000, metavar="N", help="for the subspaces (20,000)")
    parser.add_argument("--threads", type=positive, default=2, metavar="N")
    parser.add_changes()
    parser.add_data_directories()
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    experiment = experiments.load(options.experiment, [*options.set, "method=dense"]).fixed()
    experiments.prepare_data(experiment, options.data_dir)
    rows = [HEADER]
    for epochs in options.epochs or [experiment.training.epochs]:
        found = [
            both_ways(
                experiment.with_settings({"training.epochs": epochs, "seed": seed}),
                options.data_dir,
                options.tolerances,
                options.images,
            )
            for seed in range(options.seeds)
        ]
        rows += [row(epochs, *pairs) for pairs in zip(options.tolerances, zip(*found, strict=True), strict=True)]
    print_table(rows)


def both_ways(
    experiment: Experiment, data_dir: Path | None, tolerances: Sequence[float], images: int
) -> list[tuple[Utilization, Utilization]]:
    """Plain and thrifty, of one trained network at every tolerance."""
    task = image_task(experiment, data_dir)
    torch.manual_seed(experiment.seed)
    network: nn.Module = task.build_model()
    task.build_model = lambda: network
    for _ in train(experiment, task, experiment.seed, devices.choose(0)):
        pass
    subspaces, accuracy = list(task.training_batches(images)), Accuracy(list(task.evaluation_batches()))

    def whole_passes(projected: nn.Module) -> float:
        return accuracy(projected)

    return [
        (analyse(network, subspaces, whole_passes, each), analyse(network, subspaces, accuracy, each))
        for each in tolerances
    ]


def row(epochs: int, tolerance: float, found: Sequence[tuple[Utilization, Utilization]]) -> list[str]:
    same = sum(
        [(layer.k_s, layer.k_t) for layer in plain.layers] == [(layer.k_s, layer.k_t) for layer in thrifty.layers]
        for plain, thrifty in found
    )
    passes, plain_passes = fmean(thrifty.passes for _, thrifty in found), fmean(plain.passes for plain, _ in found)
    return [
        str(epochs),
        f"{tolerance:g} %",
        f"{fmean(plain.original_accuracy for plain, _ in found):.1f}",
        f"{100 * fmean(plain.mlu for plain, _ in found):.1f}",
        f"{same} of {len(found)}",
        f"{100 * fmean(abs(plain.mlu - thrifty.mlu) for plain, thrifty in found):.2f} %",
        f"{passes:.1f}",
        f"{plain_passes:.1f}",
        f"{plain_passes / passes:.1f} x fewer",
        f"{fmean(thrifty.seconds / plain.seconds for plain, thrifty in found):.2f}",
    ]
