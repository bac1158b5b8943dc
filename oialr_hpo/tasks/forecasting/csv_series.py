"""One's own time series: a CSV file with a column of dates and columns of numbers."""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oialr_hpo.mistake import hint, reason
from oialr_hpo.tasks.forecasting.dates import frequency, read_times
from oialr_hpo.tasks.forecasting.series import Series
from oialr_hpo.tasks.task import DataError

SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
DELIMITERS = (",", ";", "\t", "|")
THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+")


def is_file(dataset: str) -> bool:
    """Whether a data set is named as a file of one's own."""
    return dataset.lower().endswith(SUFFIXES)


def find_file(dataset: str, data_dir: Path | None) -> Path:
    """Where a file of one's own lies.

    Raises:
        DataError: there is none.
    """
    path = (data_dir or Path()) / Path(dataset).expanduser()
    if not path.is_file():
        raise DataError(f"{path}: no such file; put it there, or give its directory as --data-dir")
    return path


def load_csv(path: Path, date_column: str, columns: Sequence[str] | None, shares: tuple[float, float]) -> Series:
    """Read a series: the first line names the columns, rows are in the order of time and equal steps apart.

    Comma, semicolon, tab or bar between the columns; dates such as 2016-07-01, 2016/7/1 0:15 or 2016-07-01T00:15:00Z;
    decimal points, or decimal commas where no comma can be mistaken.

    Args:
        columns: those to use; None for all but the dates.
        shares: of the rows, for validation and testing; they are the last ones.

    Raises:
        DataError: the file or a part of it is none of this; the message names the line and the column.
    """
    lines, rows, delimiter = _rows(path)
    header, lines, rows = [name.strip() for name in rows[0]], lines[1:], rows[1:]
    if date_column not in header:
        raise DataError(
            f"{path}: no column {date_column!r}, but {_listed(header)};{hint(date_column, header)} name the column of "
            "dates as data.date_column"
        )
    chosen = list(columns) if columns is not None else [name for name in header if name != date_column]
    for name in (date_column, *chosen):
        if name not in header:
            raise DataError(f"{path}: data.columns: no column {name!r} but {_listed(header)};{hint(name, header)}")
        if header.count(name) > 1 or not name:
            what = "has no name" if not name else f"{name!r} is there {header.count(name)} times"
            raise DataError(f"{path}: a column {what}; name it, or choose others as data.columns")
    if date_column in chosen or not chosen or len(set(chosen)) < len(chosen):
        raise DataError(f"{path}: data.columns must name columns of numbers, each once; the file has {_listed(header)}")
    for line, row in zip(lines, rows, strict=True):
        if len(row) != len(header):
            raise DataError(f"{path}: line {line} has {len(row)} columns, the first one {len(header)}; mend it")
    if len(rows) < 3:
        raise DataError(f"{path}: {len(rows)} rows are too few for a series")
    place = header.index(date_column)
    times = read_times([row[place] for row in rows], lines, path)
    freq = frequency(times, lines, path)
    cells = [[row[header.index(name)].strip() for row in rows] for name in chosen]
    if delimiter != "," and _decimal_commas(cells):
        cells = [[cell.replace(",", ".") for cell in column] for column in cells]
    values = np.stack([_numbers(column, name, lines, path) for column, name in zip(cells, chosen, strict=True)], axis=1)
    validation, test = (int(share * len(rows)) for share in shares)
    return Series(values, times, freq, (len(rows) - validation - test, validation, test), tuple(chosen))


def _rows(path: Path) -> tuple[list[int], list[list[str]], str]:
    """The rows that are not empty, the line at which each ends, and the delimiter."""
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix.lower() == ".gz" else content).decode("utf-8-sig")
        first = text.lstrip().partition("\n")[0]
        delimiter = max(DELIMITERS, key=first.count)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        numbered = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8; save it as UTF-8 text") from None
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {reason(error)}; mend it") from None
    if "\0" in text:
        raise DataError(f"{path} holds bytes that are no text; save it as UTF-8 text")
    if not numbered:
        raise DataError(f"{path} is empty; its first line names the columns, the others hold a date and numbers each")
    return [line for line, _ in numbered], [row for _, row in numbered], delimiter


def _decimal_commas(columns: Sequence[Sequence[str]]) -> bool:
    """Whether the commas in numbers are decimal ones: some cannot be thousands, and there is no point."""
    cells = [cell for column in columns for cell in column if "," in cell or "." in cell]
    return bool(cells) and not any("." in cell for cell in cells) and not all(map(THOUSANDS.fullmatch, cells))


def _numbers(cells: Sequence[str], name: str, lines: Sequence[int], path: Path) -> NDArray[np.float64]:
    try:
        values = np.array(cells).astype(np.float64)
        if np.isfinite(values).all():
            return values
    except ValueError:
        pass
    for cell, line in zip(cells, lines, strict=True):
        try:
            if np.isfinite(float(cell)):
                continue
        except ValueError:
            pass
        where = f"{path}: line {line}, column {name!r}"
        if not cell or cell.lower() in ("nan", "na", "n/a", "null", "none", "-", "?"):
            raise DataError(f"{where}: the value is missing; fill it, or leave the column out by data.columns")
        if THOUSANDS.match(cell):
            raise DataError(f"{where}: {cell!r} may be thousands or decimals; write numbers as 1234.5")
        raise DataError(f"{where}: {cell!r} is no number; leave the column out by data.columns, or mend it")
    raise AssertionError("NumPy reads no number where Python does")


def _listed(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(map(repr, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")
