"""A search as a table for other programs."""

import csv
from pathlib import Path
from typing import TextIO

from oialr_hpo.files import check_writable, whole
from oialr_hpo.mistake import Mistake
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.files import finite
from oialr_hpo.runs.rows import Rows, of_epochs, of_trials
from oialr_hpo.runs.summary import current


def write_csv(run: RunDirectory, file: TextIO, curves: bool = False) -> None:
    """One row per trial: what it was, how it ended, its settings and its scored metrics; or, as `curves`, per epoch."""
    columns, rows = _rows(run, curves)
    writer = csv.writer(file)
    writer.writerow(columns)
    writer.writerows(finite(row) for row in rows)


def write_parquet(run: RunDirectory, path: Path, curves: bool = False) -> Path:
    """The same as a Parquet file.

    Raises:
        Mistake: pandas or pyarrow is not installed, or the file cannot be written.
    """
    check_writable(path)
    frame = _rows(run, curves).to_dataframe()
    try:
        with whole(path) as partial:
            frame.to_parquet(partial, index=False)
    except ImportError:
        raise Mistake('Parquet files need pyarrow; pip install "oialr_hpo[analysis]"') from None
    return path


def _rows(run: RunDirectory, curves: bool) -> Rows:
    trials = current(run, run.alive)
    return of_epochs(trials) if curves else of_trials(trials, run.experiment)
