"""`python -m oialr_hpo.benchmark NAME ...`: runs the module of that name, see `NAMES`."""

import os
from collections.abc import Sequence
from importlib import import_module

from oialr_hpo.commands import Parser, command, subcommand

NAMES = {
    "layers": "one layer, forward and backward, over ranks: dense, rebuilt W, hybrid, chain, ours",
    "step": "a whole training step of the mini ViT, VGG16 or Autoformer over ranks: dense, rebuilt W, ours",
    "epoch": "an epoch of an experiment's training, dense and low-rank, data and augmentation included",
    "run": "a whole run of the mini ViT against dense training, wall time",
    "moments": "what becomes of Adam's second moments when the basis of a weight changes",
    "search": "how fast the samplers find good settings; under mpirun, also how busy the ranks are",
    "startup": "how long the ranks of a search take to be ready, and what they hold, against plain Propulate",
    "stopping": "what early stopping would have saved in finished searches, and cost",
    "winners": "whether what finished searches export is worth what they say, with fresh seeds",
    "utilization": "validation passes that the search for utilized ranks takes, plain and with parts of them",
    "record": "trainings of an experiment, whole curves of many settings, for economy",
    "economy": "how good what a search exports is against what it spends, over recorded trainings; other tools' too",
}


@command
def main(arguments: Sequence[str] | None = None) -> None:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own chatter
    chosen = subcommand(
        arguments, "benchmark", "python -m oialr_hpo.benchmark NAME [options]", NAMES, f"\nexample: {parser().example}"
    )
    if chosen:
        name, options = chosen
        import_module(f"oialr_hpo.benchmark.{name}").main(options)


def parser() -> Parser:
    """Of the name alone: its module reads the options, and most of them load torch."""
    parser = Parser("benchmark", __doc__.split(": ")[1], "layers --cases 768x768 --ranks 96 --rounds 3")
    choices = "; ".join(f"{name}: {about}" for name, about in NAMES.items())
    parser.add_argument("name", choices=[*NAMES], metavar="NAME", help=choices)
    parser.add_argument("options", nargs="...", help="its own, see NAME --help")
    return parser


if __name__ == "__main__":
    main()
