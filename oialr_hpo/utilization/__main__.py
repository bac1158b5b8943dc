"""`python -m oialr_hpo.utilization EXPERIMENT --checkpoint FILE`: how much of each layer's space the data use."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from oialr_hpo import experiment as experiments
from oialr_hpo.commands import Parser, command, natural, not_negative, path, positive
from oialr_hpo.engines.worker import threads_per_worker
from oialr_hpo.experiment import Experiment, ExperimentError
from oialr_hpo.files import check_file, check_writable
from oialr_hpo.mistake import Mistake, reason
from oialr_hpo.oialr import load_low_rank
from oialr_hpo.runs.printing import table
from oialr_hpo.training import devices
from oialr_hpo.training.loop import train
from oialr_hpo.training.objective import build_task
from oialr_hpo.training.rehearsal import rehearse
from oialr_hpo.utilization.accuracy import Accuracy
from oialr_hpo.utilization.factorise import compact, densify, factorise, flops, parameters
from oialr_hpo.utilization.published import Published, published
from oialr_hpo.utilization.search import Utilization, analyse
from oialr_hpo.utilization.snapshot import save, snapshot

IMAGES = 20_000
"""For the Gram matrices: the paper takes so many of ImageNet."""


class CheckpointError(Mistake):
    """The weights cannot be had; the message is one line with the remedy."""


@command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = Parser("utilization", __doc__.split(": ")[1])
    parser.add_argument("experiment", metavar="EXPERIMENT", help="a name or a .yaml file; it says network and data")
    parser.add_argument(
        "--checkpoint", type=path, metavar="FILE", help="its weights: .safetensors, or a .pt state dict"
    )
    parser.add_argument(
        "--tolerance", type=not_negative, default=0.1, metavar="E", help="percent of accuracy per projection"
    )
    parser.add_argument("--each-alone", action="store_true", help="search each layer in the original network")
    parser.add_argument(
        "--images", type=positive, default=IMAGES, metavar="N", help=f"for the subspaces (default: {IMAGES})"
    )
    parser.add_argument(
        "--finetune", type=natural, default=0, metavar="EPOCHS", help="train the factorised network so long"
    )
    parser.add_argument(
        "--lr", type=not_negative, default=1e-4, metavar="LR", help="of --finetune, at its start (1e-4)"
    )
    parser.add_changes()
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads (default: all)")
    parser.add_argument("--out", type=path, metavar="DIR", help="where to write (default: runs/EXPERIMENT-utilization)")
    parser.add_data_directories()
    options = parser.parse_args(arguments)
    experiment = experiments.load(options.experiment, options.set).fixed()
    out = options.out or Path("runs") / f"{Path(options.experiment).stem}-utilization"
    check_writable(out, directory=True, remedy="choose another --out")
    if options.checkpoint:
        check_file(options.checkpoint)
    experiments.prepare_data(experiment, options.data_dir)
    threads = options.threads or threads_per_worker(1)
    list(rehearse(experiment, seed=experiment.seed, threads=threads, data_dir=options.data_dir))
    torch.set_num_threads(threads)
    task = image_task(experiment, options.data_dir)
    network = trained_network(experiment, task, options.checkpoint)
    out.mkdir(parents=True, exist_ok=True)
    try:
        found = analyse(
            network,
            task.training_batches(options.images),
            Accuracy(task.evaluation_batches()),
            options.tolerance,
            keep_projected=not options.each_alone,
            state=out / "state.json",
            progress=lambda line: print(line, flush=True),
        )
    except (ValueError, FloatingPointError) as error:
        raise Mistake(reason(error)) from None

    reduced = factorise(found.model, found.ranks)
    finetuned = finetune(reduced, experiment, task, options.finetune, options.lr) if options.finetune else None
    images = next(iter(task.evaluation_batches()))[0][:1]
    small = compact(reduced).eval()
    size = parameters(small) / parameters(network), flops(small, images) / flops(network, images)
    name, dataset = experiment.model["name"], experiment.data["dataset"]
    row = published(name, dataset)
    print(f"\n{layer_table(found)}\n\n{summary(found, finetuned, size, row)}")
    print(f"\n{found.passes:.1f} validation passes; a plain binary search: {found.plain_passes}")
    picture = out / "snapshot.png"
    save(snapshot(found, f"{name}, {dataset}, tolerance {options.tolerance:g} %", row), picture)
    report = {
        "layers": [asdict(layer) | {"utilization": layer.utilization} for layer in found.layers],
        "skipped": found.skipped,
        "mlu": found.mlu,
        "original_mlu": found.original_mlu,
        "original_accuracy": found.original_accuracy,
        "accuracy": found.accuracy,
        "finetuned_accuracy": finetuned,
        "parameters_ratio": size[0],
        "flops_ratio": size[1],
        "passes": found.passes,
        "plain_passes": found.plain_passes,
        "seconds": found.seconds,
    }
    (out / "utilization.json").write_text(json.dumps(report, indent=1))
    print(f"{picture}\n{out / 'utilization.json'}")


def image_task(experiment: Experiment, data_dir: Path | None) -> Any:
    """The experiment's task, on images that the analysis selects with: the validation split.

    Raises:
        ExperimentError: it is none that classifies images.
    """
    task: Any = build_task(experiment, seed=experiment.seed, device=devices.choose(0), data_dir=data_dir)
    if not hasattr(task, "evaluation_batches"):
        raise ExperimentError(f"task {experiment.task}: utilization needs one with evaluation_batches, as for images")
    return task


def trained_network(experiment: Experiment, task: Any, checkpoint: Path | None) -> nn.Module:
    """The network with the weights of a file, or with the pretrained ones that its arguments ask for.

    Raises:
        CheckpointError: there are no weights, or they are of another network.
    """
    network: nn.Module = task.build_model()
    if checkpoint:
        try:
            network = densify(load_low_rank(network, read_weights(checkpoint)))
        except (RuntimeError, ValueError, LookupError, TypeError) as error:
            why = reason(error)
            raise CheckpointError(f"{checkpoint} does not fit the network {experiment.model['name']}: {why}") from None
    elif not {"pretrained", "weights"} & {key for key, value in experiment.model["arguments"].items() if value}:
        raise CheckpointError(
            "the network is untrained; give --checkpoint FILE (from `oialr_hpo.train ... --weights FILE`), or ask for "
            "pretrained weights: --set model.arguments.pretrained=true (timm) or weights=DEFAULT (torchvision)"
        )
    return network.to(devices.choose(0)).eval()


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """A state dict, also one that a checkpoint holds as `state_dict` or `model`.

    Raises:
        CheckpointError: there is none.
    """
    check_file(path)
    try:
        content: Any = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # of a damaged file torch, zipfile and pickle raise nearly anything
        why = reason(error) if isinstance(error, OSError) else type(error).__name__
        raise CheckpointError(
            f"{path} holds no weights that can be read ({why}); choose another --checkpoint"
        ) from None
    for key in ("state_dict", "model"):
        content = content.get(key, content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise CheckpointError(f"{path} holds something else than a state dict; choose another --checkpoint")
    return {str(key).removeprefix("module."): value for key, value in content.items()}


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


def layer_table(found: Utilization) -> str:
    header = ["layer", "m x d", "k_S", "k_T", "highest", "original", "utilized", "utilization %"]
    rows = [
        [
            layer.name, f"{layer.shape[0]} x {layer.shape[1]}", layer.k_s, layer.k_t, layer.max_rank,
            layer.original_rank, layer.utilized_rank, round(100 * layer.utilization),
        ]
        for layer in found.layers
    ]  # fmt: skip
    left = [f"not analysed: {name} ({reason})" for name, reason in found.skipped.items()]
    return "\n".join([table(header, rows), *left])


def summary(found: Utilization, finetuned: float | None, size: tuple[float, float], paper: Published | None) -> str:
    header = ["", "accuracy", "projected", "fine-tuned", "MLU % of W", "MLU %", "params ratio", "FLOPs ratio"]
    here: list[Any] = ["here", found.original_accuracy, found.accuracy, finetuned]
    rows = [[*here, 100 * found.original_mlu, 100 * found.mlu, *size]]
    if paper:
        before, after = paper.original_accuracy, paper.accuracy
        rows.append(["paper", before, None, after, paper.original_mlu, paper.mlu, paper.parameters, paper.flops])
    return table(header, rows)


if __name__ == "__main__":
    main()
