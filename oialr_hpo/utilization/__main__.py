"""`python -m oialr_hpo.utilization EXPERIMENT --checkpoint FILE`: how much of each layer's space the data use."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from oialr_hpo import experiment as experiments
from oialr_hpo.commands import ExperimentName, Parser, command, natural, not_negative, path, positive
from oialr_hpo.engines.worker import threads_per_worker
from oialr_hpo.files import check_file, check_writable
from oialr_hpo.mistake import Mistake, reason
from oialr_hpo.utilization.published import IMAGES, published


@command
def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    import torch  # here and below, since a look at the options needs none of them

    from oialr_hpo.training.rehearsal import rehearse
    from oialr_hpo.utilization.accuracy import Accuracy
    from oialr_hpo.utilization.analysis import analyse
    from oialr_hpo.utilization.curves import check_layers, layer_curves
    from oialr_hpo.utilization.images import image_task
    from oialr_hpo.utilization.layer_figure import layer_figure
    from oialr_hpo.utilization.printing import as_json, layer_table, summary
    from oialr_hpo.utilization.reduction import reduce
    from oialr_hpo.utilization.snapshot import save, snapshot
    from oialr_hpo.utilization.weights import trained_network

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
    images, accuracy = task.training_batches(options.images), Accuracy(task.evaluation_batches())
    check_layers(network, images, options.layers)
    out.mkdir(parents=True, exist_ok=True)
    say = partial(print, flush=True)
    try:
        found = analyse(
            network,
            images,
            accuracy,
            options.tolerance,
            keep_projected=not options.each_alone,
            state=out / "state.json",
            progress=say,
        )
        curves = layer_curves(network, found, images, accuracy, options.layers, say)
    except (ValueError, FloatingPointError) as error:
        raise Mistake(reason(error)) from None

    reduction = reduce(network, found, experiment, task, options.finetune, options.lr)
    name, dataset = experiment.model["name"], experiment.data["dataset"]
    row = published(name, dataset)
    print(f"\n{layer_table(found)}\n\n{summary(found, reduction, row)}")
    print(f"\n{found.passes:.1f} validation passes; a plain binary search: {found.plain_passes}")
    picture = out / "snapshot.png"
    title = f"{name}, {dataset}, tolerance {options.tolerance:g} %"
    save(snapshot(found, title, row), picture)
    if curves:
        closer = layer_figure(curves, found.layers, found.original_accuracy, options.tolerance, title)
        save(closer, out / "layers.png")
        print(out / "layers.png")
    (out / "utilization.json").write_text(json.dumps(as_json(found, reduction, curves), indent=1))
    print(f"{picture}\n{out / 'utilization.json'}")


def parser() -> Parser:
    parser = Parser("utilization", __doc__.split(": ")[1], "vgg16_cifar --checkpoint vgg16.safetensors --tolerance 0.5")
    parser.add_argument(
        "experiment",
        type=ExperimentName(),
        metavar="EXPERIMENT",
        help="a name or a .yaml file; it says network and data",
    )
    parser.add_argument(
        "--checkpoint", type=path, metavar="FILE", help="its weights: .safetensors, or a .pt state dict"
    )
    parser.add_argument(
        "--tolerance", type=not_negative, default=0.1, metavar="E", help="percent of accuracy per projection"
    )
    parser.add_argument(
        "--layers", nargs="+", default=[], metavar="LAYER", help="draw these more closely: energy, accuracy over k"
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
    return parser


if __name__ == "__main__":
    main()
