"""`python -m oialr_hpo.report RUN`: a search as one HTML page and as PNG files; also as an Optuna study."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from oialr_hpo.report import study
from oialr_hpo.report.write import write
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.files import RunDirectoryError


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m oialr_hpo.report", description=__doc__.split(": ", 1)[1])
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory of a search, running or finished")
    parser.add_argument("--out", type=Path, metavar="DIR", help="for report.html and figures/ (default: RUN)")
    parser.add_argument(
        "--optuna", type=Path, metavar="FILE", help="write only this, a study.db or study.log for optuna-dashboard"
    )
    options = parser.parse_args(arguments)
    try:
        run = RunDirectory.open(options.run)
        if options.optuna:
            name = study.write(run, options.optuna)
            print(f"{options.optuna}: study {name}; look at it with: optuna-dashboard {options.optuna}")
        else:
            for path in write(run, options.out):
                print(path)
    except RunDirectoryError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
