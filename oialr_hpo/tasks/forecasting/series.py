"""What a time series is, and its parts for training, validation and testing."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from oialr_hpo.tasks.forecasting.calendar import Times, days_in, month_ends

Part = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Series:
    """One multivariate series.

    Attributes:
        values: (rows, channels) float64, in the units of the source.
        times: (rows,) datetime64, equal steps apart.
        freq: sampling frequency, which decides the time features, see `calendar.time_features`.
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
