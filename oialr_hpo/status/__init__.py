"""`python -m oialr_hpo.status RUN`: how a running or finished search stands."""

import json
import sys
from collections.abc import Sequence

from oialr_hpo.commands import Parser, command, path
from oialr_hpo.experiment.metrics import MEANING
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.files import finite
from oialr_hpo.runs.summary import current, summary
from oialr_hpo.status.rows import write_csv
from oialr_hpo.status.state import status
from oialr_hpo.status.watching import running, watch

__all__ = ["main", "status", "summary", "watch", "write_csv"]


@command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = Parser("status", __doc__.split(": ")[1])
    parser.epilog = MEANING
    parser.add_argument("run", type=path, metavar="RUN", help="run directory of a search")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--json", action="store_true", help="for programs")
    kinds.add_argument("--csv", action="store_true", help="one row per trial")
    kinds.add_argument("--watch", action="store_true", help="go on until the search has ended; Ctrl-C leaves it alone")
    options = parser.parse_args(arguments)
    run = RunDirectory.open(options.run)
    if options.watch:
        watch(run, sys.stdout)
    elif options.csv:
        write_csv(run, sys.stdout)
    elif options.json:
        print(json.dumps(finite(status(run)), indent=2))
    else:
        print(summary(run))
        if shown := running(run, current(run, run.alive)):
            print(f"\n{shown}")
