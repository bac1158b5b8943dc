"""`python -m oialr_hpo.status RUN`: how a running or finished search stands."""

import json
import sys
from collections.abc import Sequence

from oialr_hpo.commands import Parser, command, path
from oialr_hpo.experiment.metrics import MEANING
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.files import finite
from oialr_hpo.runs.summary import current, summary
from oialr_hpo.status.state import status
from oialr_hpo.status.tables import write_csv, write_parquet
from oialr_hpo.status.watching import running, watch

__all__ = ["main", "status", "summary", "watch", "write_csv", "write_parquet"]


@command
def main(arguments: Sequence[str] | None = None) -> None:
    read = parser()
    options = read.parse_args(arguments)
    if options.curves and not (options.csv or options.parquet):
        read.error("--curves is for --csv or --parquet FILE: add one of them")
    run = RunDirectory.open(options.run)
    if options.watch:
        watch(run, sys.stdout)
    elif options.csv:
        write_csv(run, sys.stdout, options.curves)
    elif options.parquet:
        print(write_parquet(run, options.parquet, options.curves))
    elif options.json:
        print(json.dumps(finite(status(run)), indent=2))
    else:
        print(summary(run))
        if shown := running(run, current(run, run.alive)):
            print(f"\n{shown}")


def parser() -> Parser:
    parser = Parser("status", __doc__.split(": ")[1], "runs/vit_digits --watch")
    parser.epilog = MEANING
    parser.add_argument("run", type=path, metavar="RUN", help="run directory of a search")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--json", action="store_true", help="for programs")
    kinds.add_argument("--csv", action="store_true", help="one row per trial")
    kinds.add_argument("--parquet", type=path, metavar="FILE", help="the same as a Parquet file, with pandas")
    kinds.add_argument("--watch", action="store_true", help="go on until the search has ended; Ctrl-C leaves it alone")
    parser.add_argument("--curves", action="store_true", help="with --csv or --parquet: one row per epoch")
    return parser
