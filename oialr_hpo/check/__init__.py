"""`python -m oialr_hpo.check [NAME]`: whether a search could run here; under mpirun or srun, on all its ranks."""

import sys
import time
from collections.abc import Sequence

from oialr_hpo.check.ranks import Alone, Many, Ranks
from oialr_hpo.check.survey import survey
from oialr_hpo.commands import ExperimentName, Parser, command, path
from oialr_hpo.engines import launchers
from oialr_hpo.engines.ranks import join

__all__ = ["main"]


@command
def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    started = time.monotonic()
    try:
        ranks: Ranks = Many() if join() > 1 else Alone()
    except launchers.LaunchError as error:
        if launchers.first():
            print(f"error: {error}\nthe search cannot run here", file=sys.stderr)
        raise SystemExit(1) from None
    try:
        findings = survey(ranks, options.name, options.set, options.out, options.data_dir, options.stage_dir)
    except BaseException:
        ranks.abort()
        raise
    if ranks.rank == 0:
        print(f"{findings.text()}\nchecked in {time.monotonic() - started:.1f} s")
    if findings.errors:
        raise SystemExit(1)


def parser() -> Parser:
    parser = Parser("check", __doc__.split(": ")[1], "vit_digits")
    parser.add_argument(
        "name", type=ExperimentName(), metavar="NAME", nargs="?", help="also make this experiment's data ready"
    )
    parser.add_argument("--out", type=path, metavar="DIR", help="run directory (default: runs/NAME)")
    parser.add_changes()
    parser.add_data_directories()
    return parser
