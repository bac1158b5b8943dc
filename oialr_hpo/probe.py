"""`python -m oialr_hpo.probe EXPERIMENT`: a short dense training narrows the search of OIALR's own settings."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from oialr_hpo import experiment as experiments
from oialr_hpo.commands import ExperimentName, Parser, command, natural, not_negative, path, positive, share
from oialr_hpo.engines.worker import threads_per_worker
from oialr_hpo.files import check_writable
from oialr_hpo.mistake import Mistake, reason
from oialr_hpo.probing import SHARE, TOLERANCE, probe, probed

__all__ = ["main", "probe", "probed"]


@command
def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    changes = [*options.set, *([f"seed={options.seed}"] if options.seed is not None else [])]
    out = options.out or Path(f"{Path(options.name).stem}-probed.yaml")
    given = shlex.join(["python", "-m", "oialr_hpo.probe", *(sys.argv[1:] if arguments is None else arguments)])
    experiment = experiments.load(options.name, changes)
    if os.path.lexists(out):
        raise Mistake(f"{out} is there already; move it away, or choose another --out")
    check_writable(out, remedy="choose another --out")
    experiments.prepare_data(experiment, options.data_dir)
    from oialr_hpo.training.rehearsal import rehearse  # loads torch

    all_of_them = threads_per_worker(1)
    list(rehearse(experiment, seed=experiment.seed, threads=all_of_them, data_dir=options.data_dir))
    try:
        threads = options.threads or all_of_them
        probe(experiment, out, given, threads, options.data_dir, options.share, options.tolerance)
    except OSError as error:
        raise Mistake(f"{out} cannot be written: {reason(error)}; choose another --out") from None
    print(f"\n{out}\nsearch it: python -m oialr_hpo.search {shlex.quote(str(out))}")


def parser() -> Parser:
    parser = Parser("probe", __doc__.split(": ")[1], "vit_digits --out narrowed.yaml")
    parser.add_argument(
        "name",
        type=ExperimentName(),
        metavar="EXPERIMENT",
        help="an experiment that ships with the package, or a .yaml path",
    )
    parser.add_argument(
        "--share", type=share, default=SHARE, metavar="S", help=f"of a dense run that is trained (default: {SHARE})"
    )
    parser.add_argument(
        "--tolerance",
        type=not_negative,
        default=TOLERANCE,
        metavar="E",
        help="percent of accuracy, of the utilized rank",
    )
    parser.add_argument("--seed", type=natural, metavar="S")
    parser.add_changes()
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads (default: all)")
    parser.add_argument("--out", type=path, metavar="FILE", help="the narrowed experiment (default: NAME-probed.yaml)")
    parser.add_data_directories()
    return parser


if __name__ == "__main__":
    main()
