"""`python -m oialr_hpo.benchmark NAME ...`: runs the module of that name, see `NAMES`."""

import os
from collections.abc import Sequence
from importlib import import_module

from oialr_hpo.commands import command, subcommand

NAMES = {
    "layers": "one layer, forward and backward, over ranks: dense, rebuilt W, hybrid, chain, ours",
    "step": "a whole training step of the mini ViT, VGG16 or Autoformer over ranks: dense, rebuilt W, ours",
    "epoch": "an epoch of an experiment's training, dense and low-rank, data and augmentation included",
    "run": "a whole run of the mini ViT against dense training, wall time",
    "moments": "what becomes of Adam's second moments when the basis of a weight changes",
    "search": "how fast the samplers find good settings; under mpirun, also how busy the ranks are",
    "startup": "how long the ranks of a search take to be ready, and what they hold, against plain Propulate",
    "stopping": "what early stopping would have saved in finished searches, and cost",
    "utilization": "validation passes that the search for utilized ranks takes, plain and with parts of them",
    "record": "trainings of an experiment, whole curves of many settings, for economy",
    "economy": "how good what a search exports is against what it spends, over recorded trainings; other tools' too",
    "probe": "whether narrowing the search by a probe pays, from finished searches with and without",
}


@command
def main(arguments: Sequence[str] | None = None) -> None:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own chatter
    chosen = subcommand(arguments, "benchmark", "python -m oialr_hpo.benchmark NAME [options]", NAMES)
    if chosen:
        name, options = chosen
        import_module(f"oialr_hpo.benchmark.{name}").main(options)


if __name__ == "__main__":
    main()
