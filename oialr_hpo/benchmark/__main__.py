"""`python -m oialr_hpo.benchmark NAME ...`: runs the module of that name, see `NAMES`."""

import os
import sys
from importlib import import_module

NAMES = {
    "layers": "one layer, forward and backward, over ranks: dense, rebuilt W, hybrid, chain, ours",
    "step": "a whole training step of the mini ViT or VGG16 over ranks: dense, rebuilt W, ours",
    "run": "a whole run of the mini ViT against dense training, wall time",
    "moments": "what becomes of Adam's second moments when the basis of a weight changes",
    "search": "how fast the samplers find good settings; under mpirun, also how busy the ranks are",
    "startup": "how long the ranks of a search take to be ready, and what they hold, against plain Propulate",
    "stopping": "what early stopping would have saved in finished searches, and cost",
    "utilization": "validation passes that the search for utilized ranks takes, plain and with parts of them",
    "probe": "whether narrowing the search by a probe pays, from finished searches with and without",
}


def main() -> int:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own chatter
    if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
        lines = "\n".join(f"  {name:11} {text}" for name, text in NAMES.items())
        print(f"usage: python -m oialr_hpo.benchmark NAME [options]\n{lines}", file=sys.stderr)
        return 2
    import_module(f"oialr_hpo.benchmark.{sys.argv[1]}").main(sys.argv[2:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
