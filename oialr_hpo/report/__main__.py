"""`python -m oialr_hpo.report RUN`: a search as one HTML page and as PNG files; also as an Optuna study."""

import shlex
from collections.abc import Sequence

from oialr_hpo.commands import Parser, command, path, written
from oialr_hpo.report import study_file
from oialr_hpo.report.watching import watch
from oialr_hpo.report.write import write
from oialr_hpo.runs.directory import RunDirectory


@command
def main(arguments: Sequence[str] | None = None) -> None:
    read = parser()
    options = read.parse_args(arguments)
    if options.watch and options.optuna:
        read.error("--watch writes the page anew, --optuna a study: leave one of them out")
    run = RunDirectory.open(options.run)
    if options.optuna:
        name = study_file.write(run, options.optuna)
        print(f"{options.optuna}: study {name}; look at it with: optuna-dashboard {shlex.quote(str(options.optuna))}")
    else:
        out = options.out or run.path
        before = {*out.glob("*.html"), *out.glob("figures/*.png")}
        if options.watch and run.alive:
            print(f"{out / 'report.html'} is written anew until the search has ended: open it in a browser", flush=True)
        print(written(watch(run, out) if options.watch else write(run, out), before))


def parser() -> Parser:
    parser = Parser("report", __doc__.split(": ", 1)[1], "runs/vit_digits --watch")
    parser.add_argument("run", type=path, metavar="RUN", help="run directory of a search, running or finished")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--out", type=path, metavar="DIR", help="for report.html and figures/ (default: RUN)")
    kinds.add_argument(
        "--optuna", type=path, metavar="FILE", help="write only this, a study.db or study.log for optuna-dashboard"
    )
    parser.add_argument(
        "--watch", action="store_true", help="write the page anew until the search has ended; Ctrl-C leaves it alone"
    )
    return parser


if __name__ == "__main__":
    main()
