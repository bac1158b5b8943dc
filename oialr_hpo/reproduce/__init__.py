"""`python -m oialr_hpo.reproduce table3`: a table of the OIALR paper, measured again, with a tuned dense baseline.

Of every experiment two searches are run with the same budget, one of all its settings for its method, OIALR, one of
all but the method's own for the dense network; then dense, untuned and both tuned networks are trained with fresh seeds
and tested once each. Everything lies in run directories, so that the same command goes on where it was interrupted.
"""

import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from oialr_hpo import experiment as experiments
from oialr_hpo.commands import INTERRUPTED, Parser, command, natural, path, positive, share
from oialr_hpo.engines import launchers
from oialr_hpo.engines.ranks import on_first_rank
from oialr_hpo.files import check_writable
from oialr_hpo.reproduce.comparison import METHODS, Comparison
from oialr_hpo.reproduce.published import published, tables
from oialr_hpo.reproduce.runner import Interrupted, Runner, rehearse
from oialr_hpo.reproduce.variants import load, shorten
from oialr_hpo.reproduce.write import write

SEEDS = (1000, 1001, 1002)
"""Far from those of a search, which count up from the experiment's own."""


@command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = Parser("reproduce", __doc__.split("\n")[0])
    parser.add_argument(
        "name", metavar="NAME", help="table3 (mini ViT, CIFAR-10), table4 (Autoformer, ETTm2), or any experiment"
    )
    parser.add_argument("--budget", type=share, default=1.0, metavar="B", help="share of the epochs and trials, (0, 1]")
    parser.add_argument(
        "--seeds", type=natural, nargs="+", default=list(SEEDS), metavar="S", help="of the final trainings"
    )
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=list(METHODS), help="which rows (default: all)"
    )
    parser.add_argument("--jobs", type=positive, default=1, metavar="K", help="worker processes without mpirun")
    parser.add_changes()
    parser.add_argument("--out", type=path, metavar="DIR", help="default: runs/reproduce/NAME")
    parser.add_data_directories()
    options = parser.parse_args(arguments)
    if options.name not in tables():
        experiments.find(options.name, others=tables())
    out = options.out or Path("runs/reproduce") / Path(options.name).stem
    out = on_first_rank(lambda: out.absolute() if launchers.launched() else out)
    on_first_rank(lambda: check_writable(out, directory=True, remedy="choose another --out"))
    comparisons = [
        Comparison(name, shorten(load(name, options.set), options.budget), experiments.load(name), {})
        for name in published(options.name).experiments
    ]
    new = [comparison.experiment for comparison in comparisons if not (out / comparison.name).exists()]
    on_first_rank(lambda: rehearse(new, options.data_dir))
    seeds = list(dict.fromkeys(options.seeds))
    runners = [Runner(each, out / each.name, seeds, options.jobs, options.data_dir) for each in comparisons]
    try:
        for runner, method in product(runners, options.methods):
            runner.comparison.rows[method] = runner.measure(method)
            on_first_rank(lambda: write(options.name, comparisons, out))
        interrupted = False
    except Interrupted:
        interrupted = True
    text = on_first_rank(lambda: write(options.name, comparisons, out))
    if launchers.first():
        print(f"\n{text}\n{out / 'table.md'}, .csv and .json")
        if interrupted:
            print("interrupted; the same command goes on", file=sys.stderr)
    if interrupted:
        raise SystemExit(INTERRUPTED)
