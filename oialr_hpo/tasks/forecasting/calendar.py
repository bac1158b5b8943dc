"""Dates as a forecaster sees them."""

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.datetime64]


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
