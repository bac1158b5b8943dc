"""`python -m oialr_hpo.reproduce table3`: a table of the OIALR paper, measured again, with a tuned dense baseline.

Of every experiment searches are run with the same budget: one of all its settings for its method, OIALR, one of all but
the method's own for the dense network, and one for each other method that is asked for, of its lines in the file. Then
the untuned and the tuned networks are trained with fresh seeds and tested once each. Everything lies in run
directories, so that the same command goes on where it was interrupted.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from oialr_hpo import experiment as experiments
from oialr_hpo.commands import INTERRUPTED, ExperimentName, Parser, command, factor, natural, path, positive, share
from oialr_hpo.engines import launchers
from oialr_hpo.engines.deadline import Deadline
from oialr_hpo.engines.ranks import on_first_rank
from oialr_hpo.files import check_writable
from oialr_hpo.reproduce import choosing
from oialr_hpo.reproduce.choosing import compare, new
from oialr_hpo.reproduce.comparison import Comparison, Row
from oialr_hpo.reproduce.pacing import planned
from oialr_hpo.reproduce.plan import TimeBox
from oialr_hpo.reproduce.published import published, tables
from oialr_hpo.reproduce.runner import Interrupted, Runner, rehearse
from oialr_hpo.reproduce.write import write
from oialr_hpo.runs.printing import tell

SEEDS = (1000, 1001, 1002)
"""Far from those of a search, which count up from the experiment's own."""


@command
def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    if options.name not in tables():
        experiments.find(options.name, others=tables())
    out = options.out or Path("runs/reproduce") / Path(options.name).stem
    out = on_first_rank(lambda: out.absolute() if launchers.launched() else out)
    on_first_rank(lambda: check_writable(out, directory=True, remedy="choose another --out"))
    asked = [row for rows in options.methods for row in rows] if options.methods else None
    seeds = list(dict.fromkeys(options.seeds))

    def compared(budget: float) -> list[tuple[Comparison, list[str]]]:
        experiments = published(options.name).experiments
        return [
            compare(name, rows, asked, options.set, budget, options.tuned_in, options.rates)
            for name, rows in experiments.items()
        ]

    deadline, jobs, time_box = Deadline(options.seconds) if options.seconds else None, options.jobs or 1, None
    chosen = compared(options.budget or 1.0)
    on_first_rank(lambda: rehearse([each for one, _ in chosen for each in new(one, out)], options.data_dir))
    if deadline:
        plan = planned(compared, len(seeds), deadline.left, options.budget, options.jobs, out, options.data_dir)
        chosen, jobs = compared(plan.budget), plan.workers
        time_box = TimeBox(deadline, plan.parts(chosen, len(seeds)))
        if launchers.first():
            tell(plan.told(chosen, len(seeds)))
    comparisons = [comparison for comparison, _ in chosen]
    try:
        for comparison, rows in chosen:
            runner = Runner(comparison, out / comparison.name, seeds, jobs, options.data_dir, time_box)
            for row in rows:
                comparison.rows[row] = runner.measure(row)
                on_first_rank(lambda: write(options.name, comparisons, out))
        interrupted = ""
    except Interrupted as error:
        interrupted = str(error)
    text = on_first_rank(lambda: write(options.name, comparisons, out))
    if launchers.first():
        print(f"\n{text}\n{out / 'table.md'}, .csv and .json")
        if interrupted:
            print(f"{interrupted}; the same command goes on", file=sys.stderr)
    if interrupted:
        raise SystemExit(INTERRUPTED)


def parser() -> Parser:
    parser = Parser("reproduce", __doc__.split("\n")[0], "vit_digits --methods dense tuned --seeds 0 1 2 --jobs 2")
    parser.add_argument(
        "name",
        type=ExperimentName(tuple(tables())),
        metavar="NAME",
        help="table2 (methods compared), table3 (mini ViT, CIFAR-10), table4 (Autoformer, ETTm2), or any experiment",
    )
    parser.add_argument(
        "--for",
        dest="seconds",
        type=_seconds,
        metavar="TIME",
        help="such as 25m or 2h: steps are timed, the largest scale that fits is chosen, and the command ends in time; "
        "given again, it goes on for as long",
    )
    parser.add_argument(
        "--budget", type=share, metavar="B", help="share of the epochs and trials, (0, 1] (default: 1, or what fits)"
    )
    parser.add_argument(
        "--seeds", type=natural, nargs="+", default=list(SEEDS), metavar="S", help="of the final trainings"
    )
    parser.add_argument(
        "--methods",
        type=_rows,
        nargs="+",
        metavar="M",
        help="which rows: dense; 'dense, tuned'; untuned, tuned: of the experiment's method; NAME, such as rigl, or "
        "package.module:Class: both of that method; 'NAME, tuned' (default: the first four, and both of each method of "
        "the published table)",
    )
    parser.add_argument(
        "--tuned-in",
        type=path,
        metavar="DIR",
        help="nothing is searched: tuned rows have the best settings of the searches that lie in DIR, such as "
        "runs/reproduce/NAME/NAME of another comparison",
    )
    parser.add_argument(
        "--rates",
        type=factor,
        default=1.0,
        metavar="F",
        help="multiply the learning rates of all rows: by muP 0.5 for twice the width (default: 1)",
    )
    parser.add_argument(
        "--jobs",
        type=positive,
        metavar="K",
        help="worker processes without mpirun (default: 1, or with --for what is fastest)",
    )
    parser.add_changes()
    parser.add_argument("--out", type=path, metavar="DIR", help="default: runs/reproduce/NAME")
    parser.add_volume("every epoch of every trial too")
    parser.add_data_directories()
    return parser


def _seconds(text: str) -> float:
    try:
        return experiments.seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _rows(text: str) -> list[Row]:
    try:
        return choosing.rows(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
