"""`python -m oialr_hpo.figures RUN`: pictures of a trial's weights, as in the paper's Figure 1, and of its ranks."""

from collections.abc import Sequence

from oialr_hpo.commands import Parser, command, natural, path, written
from oialr_hpo.report.trial_figures import write
from oialr_hpo.runs.directory import RunDirectory


@command
def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    run, out = RunDirectory.open(options.run), options.out or options.run / "figures"
    before = set(out.glob("*.png"))
    print(written(write(run, options.trial, out), before))


def parser() -> Parser:
    parser = Parser("figures", __doc__.split(": ")[1], "runs/vit_digits --trial 3")
    parser.add_argument("run", type=path, metavar="RUN", help="run directory of a search, or of train --out")
    parser.add_argument("--trial", type=natural, metavar="N", help="default: the best one, or the first if none is")
    parser.add_argument("--out", type=path, metavar="DIR", help="where to write (default: RUN/figures)")
    return parser


if __name__ == "__main__":
    main()
