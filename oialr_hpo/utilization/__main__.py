"""`python -m oialr_hpo.utilization EXPERIMENT --checkpoint FILE`: how much of each layer's space the data use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from oialr_hpo import experiment as experiments
from oialr_hpo.commands import ExperimentName, Parser, command, natural, not_negative, path, positive
from oialr_hpo.engines.worker import threads_per_worker
from oialr_hpo.files import check_file, check_writable
from oialr_hpo.mistake import Mistake
from oialr_hpo.utilization.comparison import draw
from oialr_hpo.utilization.published import IMAGES

TOLERANCE = 0.1


@command
def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    experiment = experiments.load(options.experiment, options.set).fixed()
    out = options.out or Path("runs") / f"{Path(options.experiment).stem}-utilization"
    check_writable(out, directory=True, remedy="choose another --out")
    if options.checkpoint:
        check_file(options.checkpoint)
    networks, tolerances = options.networks or [experiment.model["name"]], options.tolerance or [TOLERANCE]
    if options.checkpoint and options.networks:
        raise Mistake("--checkpoint holds one network's weights; leave it out, and --networks are trained, or these")
    experiments.prepare_data(experiment, options.data_dir)
    threads = options.threads or threads_per_worker(1)
    import torch  # here and below, since a look at the options needs none of them

    from oialr_hpo.training.rehearsal import rehearse
    from oialr_hpo.utilization.images import image_task
    from oialr_hpo.utilization.measuring import Options, measure
    from oialr_hpo.utilization.sweep import Sweep
    from oialr_hpo.utilization.weights import trained_network

    details = Options(options.images, options.finetune, options.lr, tuple(options.layers), options.each_alone)
    sweep = Sweep(experiment, networks, tolerances, details, options.checkpoint, out)
    sweeping = options.networks or len(tolerances) > 1
    if sweeping:
        sweep.check()
    for each in sweep.unfinished() if sweeping else [experiment]:
        list(rehearse(each, seed=each.seed, threads=threads, data_dir=options.data_dir))
    torch.set_num_threads(threads)
    if sweeping:
        print("\n".join(map(str, draw(sweep.run(options.data_dir), out))))
    else:
        task = image_task(experiment, options.data_dir)
        measure(trained_network(experiment, task, options.checkpoint), experiment, task, tolerances[0], details, out)


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
        "--networks",
        nargs="+",
        metavar="NAME",
        help="a family in the place of model.name: trained dense, or pretrained",
    )
    parser.add_argument(
        "--tolerance",
        type=not_negative,
        action="append",
        metavar="E",
        help=f"percent of accuracy per projection ({TOLERANCE}); once for each that is to be compared",
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
