"""An electrocardiogram that ships with SciPy."""

import importlib.util
from pathlib import Path

import numpy as np

from oialr_hpo.tasks.forecasting.series import Series
from oialr_hpo.tasks.task import DataError


def load_ecg() -> Series:
    """Five minutes of a heart (MIT-BIH Arrhythmia Database, record 208, lead MLII, from 19:35 on; Moody and
    Mark 2001), meaned from 360 to 45 Hz: 13,500 rows in mV, a beat about every 25.

    The file ships with SciPy 1.10 to 1.12, the releases that propulate 1.2.2 needs. It has no calendar: the
    time is that of the recording.
    """
    spec = importlib.util.find_spec("scipy")
    path = Path((spec and spec.origin) or "scipy").parent / "misc" / "ecg.dat"
    if not path.is_file():
        raise DataError(f"{path} is missing: the ecg data set ships with SciPy 1.10 to 1.12; install scipy==1.12.0")
    with np.load(path) as archive:
        millivolts = (archive["ecg"].astype(np.float64) - 1024) / 200
    values = millivolts.reshape(-1, 8).mean(axis=1, keepdims=True)
    milliseconds = np.arange(len(values)) * 1000 // 45
    times = np.datetime64("1970-01-01T00:19:35", "ms") + milliseconds.astype("timedelta64[ms]")
    test = len(values) // 5
    return Series(values, times, "s", (len(values) - 2 * test, test, test), ("MLII",))
