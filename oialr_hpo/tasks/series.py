"""What a time series is, its calendar, and its parts for training, validation and testing."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Part = Literal["train", "validation", "test"]
Times = NDArray[np.datetime64]


@dataclass(frozen=True)
class Series:
    """One multivariate series.

    Attributes:
        values: (rows, channels) float64, in the units of the source.
        times: (rows,) datetime64, equal steps apart.
        freq: sampling frequency, which decides the time features, see `time_features`.
        rows: how many rows, from the first on, are for training, validation and testing; the rest is unused.
        columns: the channels' names.
    """

    values: NDArray[np.float64]
    times: Times
    freq: str
    rows: tuple[int, int, int]
    columns: tuple[str, ...]

    def borders(self, part: Part, seq_len: int) -> tuple[int, int]:
        """First and last (exclusive) row of a part; validation and testing look seq_len rows back."""
        train, validation, test = self.rows
        return {
            "train": (0, train),
            "validation": (train - seq_len, train + validation),
            "test": (train + validation - seq_len, train + validation + test),
        }[part]

    def check_windows(self, part: Part, seq_len: int, pred_len: int) -> None:
        """Make sure that a part holds a window.

        Raises:
            ValueError: it is shorter.
        """
        first, last = self.borders(part, seq_len)
        if first < 0 or last - first < seq_len + pred_len:
            raise ValueError(
                f"seq_len {seq_len} + pred_len {pred_len} does not fit the {part} part of {self.rows} rows "
                "(train, validation, test); shorten them"
            )

    def following(self, count: int) -> Times:
        """The times of the steps after the last row."""
        (before, last), ahead = self.times[-2:], np.arange(1, count + 1)
        day, months = self.times[-2:].astype("datetime64[D]"), self.times[-2:].astype("datetime64[M]")
        if self.freq == "b":
            return np.asarray(np.busday_offset(day[1], ahead) + (last - day[1]))
        if self.freq != "m":
            return np.asarray(last + ahead * (last - before))
        month = months[1] + ahead * (months[1] - months[0])
        last_day = days_in(month) - 1
        month_day = last_day if month_ends(day).all() else np.minimum(day[1] - months[1], last_day)
        return np.asarray(month.astype("datetime64[D]") + month_day + (last - day[1]))


def time_features(times: Times, freq: str) -> NDArray[np.float64]:
    """Calendar features in [-0.5, 0.5], as Autoformer's authors take them from a sampling frequency.

    Args:
        times: (rows,) datetime64.
        freq: "s", "t" or "h" for (second, minute,) hour, week day, month day and year day; "d" or "b" for the last
            three; "w" for month day and week of the year; "m" for the month.
    """
    seconds = times.astype("datetime64[s]").astype(np.int64)
    days = times.astype("datetime64[D]")
    months = times.astype("datetime64[M]")
    week_day = (days.astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday; Monday is 0
    month_day = (days - months).astype(np.int64)
    year_day = (days - times.astype("datetime64[Y]")).astype(np.int64)
    if freq == "m":
        features = [months.astype(np.int64) % 12 / 11]
    elif freq == "w":
        thursday = days - week_day + 3  # an ISO week belongs to the year of its Thursday
        week = (thursday - thursday.astype("datetime64[Y]")).astype(np.int64) // 7
        features = [month_day / 30, week / 52]
    else:
        features = [
            seconds % 60 / 59,
            seconds // 60 % 60 / 59,
            seconds // 3600 % 24 / 23,
            week_day / 6,
            month_day / 30,
            year_day / 365,
        ]
        features = features[{"s": 0, "t": 1, "h": 2, "d": 3, "b": 3}[freq] :]
    return np.stack(features, axis=1) - 0.5


def days_in(month: Times) -> NDArray[np.timedelta64]:
    return (month + 1).astype("datetime64[D]") - month.astype("datetime64[D]")


def month_ends(day: Times) -> NDArray[np.bool_]:
    return np.asarray((day + 1).astype("datetime64[M]") != day.astype("datetime64[M]"))
