"""`python -m oialr_hpo.figures RUN`: pictures of a trial, its course and its weights, or of analyses."""

from collections.abc import Sequence

from oialr_hpo.commands import Parser, command, natural, path, written
from oialr_hpo.report.course import chosen
from oialr_hpo.report.trial_figures import write
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.utilization.comparison import draw
from oialr_hpo.utilization.kept import holds_analyses, read_all


@command
def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_intermixed_args(arguments)
    out = options.out or options.runs[0] / "figures"
    before = set(out.glob("*.png"))
    if holds_analyses(options.runs[0]):
        files = draw([result for run in options.runs for result in read_all(run)], out)
    else:
        first, *others = chosen([RunDirectory.open(run) for run in options.runs], options.trial)
        files = write(first, out, others)
    print(written(files, before))


def parser() -> Parser:
    parser = Parser("figures", __doc__.split(": ")[1], "runs/vit_digits --trial 3")
    parser.add_argument(
        "runs",
        type=path,
        nargs="+",
        metavar="RUN",
        help="run directory of a search, or of train --out, and others that it is drawn beside; or directories that "
        "utilization has written",
    )
    parser.add_argument(
        "--trial",
        type=natural,
        action="append",
        default=[],
        metavar="N",
        help="default: the best one, or the first if none is; once for each RUN, or several times for one: the first "
        "is drawn beside the others (default: beside the dense baseline)",
    )
    parser.add_argument("--out", type=path, metavar="DIR", help="where to write (default: RUN/figures)")
    return parser


if __name__ == "__main__":
    main()
