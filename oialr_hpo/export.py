"""`python -m oialr_hpo.export RUN`: the best settings of a search as YAML files that `train` runs again."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from oialr_hpo.commands import Parser, command, natural, path, positive
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.exported import export, export_trials, remove_earlier
from oialr_hpo.runs.weights import beside, described


@command
def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    run = RunDirectory.open(options.run)
    if options.trial is not None:
        say(export_trials(run, options.trial, options.out))
        return
    files = export(run, None if options.pareto else options.top, options.out)
    say(files)
    if not options.pareto and len(files) < options.top:
        print(f"{len(files)} of {options.top}: the search has no more trials that differ and may be exported")
    for file in remove_earlier(run, files):
        print(f"removed {file}, of an earlier export: it is no longer among these")


def parser() -> Parser:
    parser = Parser("export", __doc__.split(": ")[1], "runs/vit_digits --top 3 --out tuned")
    parser.add_argument("run", type=path, metavar="RUN", help="run directory of a search")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--top", type=positive, default=1, metavar="K", help="how many of the best (default: 1)")
    chosen.add_argument("--pareto", action="store_true", help="all that no other beats in every goal, instead")
    chosen.add_argument("--trial", type=natural, nargs="+", metavar="N", help="trials by their numbers, instead")
    parser.add_argument("--out", type=path, metavar="DIR", help="where to write (default: RUN/best)")
    return parser


def say(files: Iterable[Path]) -> None:
    """Name what was written, each with the weights beside it."""
    for file in files:
        print(file)
        if described(weights := beside(file)):
            print(weights)


if __name__ == "__main__":
    main()
