"""The column of dates of one's own series: moments in order, equal steps apart."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from oialr_hpo.tasks.forecasting.calendar import Times, month_ends
from oialr_hpo.tasks.task import DataError

DATE = re.compile(
    r"(\d{4})(?:[-/](\d{1,2})(?:[-/](\d{1,2})"
    r"(?:[T ]+(\d{1,2})(?::(\d{1,2})(?::(\d{1,2})(?:[.,](\d{1,9}))?)?)? *(Z|[+-]\d{2}:?\d{2})?)?)?)?"
)
UNITS = {"days": 86_400, "hours": 3600, "minutes": 60, "seconds": 1}
FREQUENCIES = {"m": 28 * 86_400, "w": 7 * 86_400, "d": 86_400, "h": 3600, "t": 60, "s": 0}
"""The shortest step of each frequency, in seconds."""


def read_times(cells: Sequence[str], lines: Sequence[int], path: Path) -> Times:
    moments, offsets = [], set()
    for cell, line in zip(cells, lines, strict=True):
        try:
            moment, offset = _moment(cell.strip())
        except ValueError:
            raise DataError(
                f"{path}: line {line}: {cell!r} is no date; write dates as 2016-07-01 or 2016-07-01 00:15:00"
            ) from None
        moments.append(moment)
        offsets.add(offset)
    if len(offsets) > 1:  # one offset: local times are as good; several: only one clock has equal steps
        if None in offsets:
            raise DataError(f"{path}: some dates have a time zone, others none; write all alike")
        parsed = [_moment(cell.strip()) for cell in cells]
        moments = [moment - offset for moment, offset in parsed if offset is not None]
    times = np.array(moments, dtype="datetime64[us]")
    if len(wrong := np.flatnonzero(times[1:] <= times[:-1])):
        at = wrong[0]
        what = "is there twice" if times[at + 1] == times[at] else f"comes after {cells[at].strip()}"
        remedy = "remove one of the rows" if times[at + 1] == times[at] else "sort the rows by date"
        raise DataError(f"{path}: line {lines[at + 1]}: {cells[at + 1].strip()} {what}; {remedy}")
    return times


def _moment(text: str) -> tuple[datetime, timedelta | None]:
    """A date and its offset from UTC, if it has one.

    Raises:
        ValueError: it is none.
    """
    found = DATE.fullmatch(text)
    if not found:
        raise ValueError
    year, month, day, hour, minute, second, fraction, zone = found.groups()
    microsecond = int((fraction or "0")[:6].ljust(6, "0"))
    moment = datetime(
        int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0), microsecond
    )
    offset = datetime.strptime(zone, "%z").utcoffset() if zone else None
    return moment, offset


def frequency(times: Times, lines: Sequence[int], path: Path) -> str:
    """The letter of the sampling frequency, see `oialr_hpo.tasks.forecasting.calendar.time_features`."""
    days, months = times.astype("datetime64[D]"), times.astype("datetime64[M]")
    same_clock = len(np.unique(times - days)) == 1
    same_day = len(np.unique(days - months)) == 1 or bool(month_ends(days).all())
    steps, unit = np.diff(times) / np.timedelta64(1, "s"), ""
    if same_clock and same_day and (np.diff(months) > np.timedelta64(0)).all():
        steps, unit, freq = np.diff(months).astype(float), "months", "m"
    elif same_clock and np.is_busday(days).all() and len(np.unique(steps)) > 1:
        steps, unit, freq = np.busday_count(days[:-1], days[1:]).astype(float), "business days", "b"
    found, counts = np.unique(steps, return_counts=True)
    usual = float(found[counts.argmax()])
    if len(found) == 1:
        return freq if unit else next(freq for freq, least in FREQUENCIES.items() if usual >= least)
    at = int(np.flatnonzero(steps != usual)[0])
    raise DataError(
        f"{path}: line {lines[at + 1]} comes {_length(float(steps[at]), unit)} after the row before, most rows come "
        f"{_length(usual, unit)} after theirs; fill the gap, or resample to equal steps"
    )


def _length(step: float, unit: str) -> str:
    if unit:
        return f"{step:g} {unit}"
    unit = next((unit for unit, length in UNITS.items() if step >= length), "seconds")
    return f"{step / UNITS[unit]:g} {unit}"
