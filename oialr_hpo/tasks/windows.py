"""Windows of a time series: what a forecaster sees and what it is to foresee."""

import numpy as np
import torch
from torch import Tensor

from oialr_hpo.tasks.ett import Part, Series, time_features


class Windows:
    """All windows of a part of a series, scaled to mean 0 and standard deviation 1 on the training rows.

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
        first, last = series.borders(part, seq_len)
        length = seq_len + pred_len
        if first < 0 or last - first < length:
            raise ValueError(
                f"seq_len {seq_len} + pred_len {pred_len} does not fit the {part} part of {series.rows} rows "
                "(train, validation, test); shorten them"
            )
        training_rows = series.values[: series.rows[0]]
        self.mean, self.scale = training_rows.mean(axis=0), training_rows.std(axis=0)
        scaled = (series.values[first:last] - self.mean) / self.scale
        self.series = torch.from_numpy(scaled.astype(np.float32)).to(device)
        marks = time_features(series.times[first:last], series.freq).astype(np.float32)
        self._values = self.series.unfold(0, length, 1).transpose(1, 2)
        self._marks = torch.from_numpy(marks).to(device).unfold(0, length, 1).transpose(1, 2)
        self._seq_len, self._label_start = seq_len, seq_len - label_len

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: Tensor | slice) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Past and its time features, (windows, seq_len, ...); label and future and theirs,
        (windows, label_len + pred_len, ...). Views for a slice; a gather for a tensor of indices."""
        values, marks = self._values[index], self._marks[index]
        past, target = slice(None, self._seq_len), slice(self._label_start, None)
        return values[:, past], marks[:, past], values[:, target], marks[:, target]
