"""Windows of a time series: what a forecaster sees and what it is to foresee."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oialr_hpo.tasks.forecasting.calendar import time_features
from oialr_hpo.tasks.forecasting.series import Part, Series


class Windows:
    """All windows of a part of a series, scaled to mean 0 and standard deviation 1 on the training rows. A channel that
    is constant there keeps its scale.

    Series and time features lie on the device once; windows are views of them.

    Attributes:
        series: (rows, channels) float32.
        mean, scale: (channels,) float64 of the training rows, to undo the scaling.

    Raises:
        ValueError: the part is shorter than one window.
    """

    def __init__(
        self, series: Series, part: Part, *, seq_len: int, label_len: int, pred_len: int, device: torch.device
    ):
        series.check_windows(part, seq_len, pred_len)
        first, last = series.borders(part, seq_len)
        length = seq_len + pred_len
        training_rows = series.values[: series.rows[0]]
        constant = training_rows.min(axis=0) == training_rows.max(axis=0)
        self.mean, self.scale = training_rows.mean(axis=0), np.where(constant, 1.0, training_rows.std(axis=0))
        self.series = torch.from_numpy(self.scaled(series.values[first:last])).to(device)
        marks = time_features(series.times[first:last], series.freq).astype(np.float32)
        self._values = self.series.unfold(0, length, 1).transpose(1, 2)
        self._marks = torch.from_numpy(marks).to(device).unfold(0, length, 1).transpose(1, 2)
        self._seq_len, self._label_start = seq_len, seq_len - label_len

    def scaled(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """Values of the series, (..., channels), as a network sees them."""
        return ((values - self.mean) / self.scale).astype(np.float32)

    def in_units(self, values: Tensor) -> NDArray[np.float64]:
        """What a network gives, (..., channels), in the units of the series."""
        restored: NDArray[np.float64] = values.cpu().double().numpy() * self.scale + self.mean
        return restored

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: Tensor | slice) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Past and its time features, (windows, seq_len, ...); label and future and theirs,
        (windows, label_len + pred_len, ...). Views for a slice; a gather for a tensor of indices."""
        values, marks = self._values[index], self._marks[index]
        past, target = slice(None, self._seq_len), slice(self._label_start, None)
        return values[:, past], marks[:, past], values[:, target], marks[:, target]
