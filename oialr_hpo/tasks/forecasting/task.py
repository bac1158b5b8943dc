"""Forecasting with Autoformer, under the protocol of Wu et al. 2021."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from oialr_hpo.mistake import Mistake
from oialr_hpo.tasks.forecasting.autoformer import Autoformer
from oialr_hpo.tasks.forecasting.calendar import Times, time_features
from oialr_hpo.tasks.forecasting.settings import ForecastingSettings
from oialr_hpo.tasks.forecasting.windows import Windows
from oialr_hpo.tasks.task import Split

Batch = tuple[Tensor, Tensor, Tensor, Tensor]
EVALUATION_BATCH = 128


class Forecasting:
    """Mean squared error of all channels at all steps to forecast, on data scaled by the training rows.

    Training draws its windows in random order and leaves out an incomplete last batch, as the original does;
    evaluation uses every window once.

    Raises:
        DataError: the series is missing or damaged.
        Mistake: a batch is larger than the training part.
        ValueError: a part has fewer windows than the settings ask for.
    """

    Settings = ForecastingSettings
    validates = True

    def __init__(
        self,
        settings: ForecastingSettings,
        *,
        batch_size: int,
        seed: int,
        device: torch.device,
        data_dir: Path | None,
        split: Split,
    ):
        self.settings, self.split = settings, split
        self._batch_size, self._seed, self._device = batch_size, seed, device
        data = settings.data
        self.series = settings.series(data_dir)
        self._windows: dict[str, Windows] = {}
        self._chosen = _evenly_spread(data.train_windows, len(self.windows("train")), "train")
        self._validated = _evenly_spread(data.validation_windows, len(self.windows("validation")), "validation")
        if batch_size > len(self._chosen):
            raise Mistake(
                f"training.batch_size {batch_size} exceeds the {len(self._chosen)} training windows; lower it"
            )
        self.steps_per_epoch = len(self._chosen) // batch_size

    def windows(self, part: Split | Literal["train"]) -> Windows:
        """All windows of a part, on the device from the first call on."""
        if part not in self._windows:
            data = self.settings.data
            self._windows[part] = Windows(
                self.series,
                part,
                seq_len=data.seq_len,
                label_len=data.label_len,
                pred_len=data.pred_len,
                device=self._device,
            )
        return self._windows[part]

    def build_model(self) -> Autoformer:
        return self.settings.network(self.series.values.shape[1], self.series.freq)

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        seed = int(np.random.SeedSequence([self._seed, epoch]).generate_state(1)[0])
        order = torch.randperm(len(self._chosen), generator=torch.Generator().manual_seed(seed))
        shuffled = self._chosen[order].to(self._device)
        for step in range(self.steps_per_epoch):
            yield self.windows("train")[shuffled[step * self._batch_size : (step + 1) * self._batch_size]]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return F.mse_loss(*self._forecast(model, batch))

    def evaluate(self, model: nn.Module, split: Split, batches: int | None = None) -> dict[str, float]:
        """`mse` and `mae` over all windows of a split, or those of the first batches, on scaled data; `loss` is the
        mse; `mae_units` is the mean over the columns of their mean absolute errors in the series' own units."""
        windows = self.windows(split)
        chosen = self._validated if split == "validation" else torch.arange(len(windows))
        chosen = chosen[: batches and batches * EVALUATION_BATCH]
        errors, by_channel = [], []
        for index in chosen.to(self._device).split(EVALUATION_BATCH):
            forecast, target = self._forecast(model, windows[index])
            difference = forecast - target
            errors.append(torch.stack([difference.square().sum(), difference.abs().sum()]))
            by_channel.append(difference.abs().sum(dim=(0, 1)))
        values = len(chosen) * target[0].numel()
        mse, mae = (torch.stack(errors).cpu().double().sum(dim=0) / values).tolist()
        in_units = torch.stack(by_channel).cpu().double().sum(dim=0).numpy() * windows.scale
        mae_units = float(in_units.sum() / values)
        return {"loss": mse, "mse": mse, "mae": mae, "mae_units": mae_units}

    @torch.no_grad()
    def forecasts(self, model: nn.Module, split: Split) -> NDArray[np.float64]:
        """What a network foresees in all windows of a split, (windows, pred_len, columns), in the series' own units.

        Window w forecasts the rows first + w to first + w + pred_len - 1 of `series`, where first is that of the part:
        `series.borders(split, 0)[0]`.
        """
        windows = self.windows(split)
        model.eval()
        parts = torch.arange(len(windows), device=self._device).split(EVALUATION_BATCH)
        return np.concatenate([windows.in_units(self._forecast(model, windows[part])[0]) for part in parts])

    @torch.no_grad()
    def predict(self, model: nn.Module) -> tuple[Times, NDArray[np.float64]]:
        """What a network foresees after the last row of the series: times, and (pred_len, columns) in its own units."""
        data, windows = self.settings.data, self.windows("train")
        past = self.series.values[-data.seq_len :]
        future = np.repeat(windows.mean[None], data.pred_len, axis=0)  # zeros for the network, and unused
        values = windows.scaled(np.concatenate([past, future]))
        times = np.concatenate([self.series.times[-data.seq_len :], self.series.following(data.pred_len)])
        marks = time_features(times, self.series.freq).astype(np.float32)
        end, start = data.seq_len, data.seq_len - data.label_len
        known = [torch.from_numpy(array)[None].to(self._device) for array in (values, marks)]
        model.eval()
        batch = known[0][:, :end], known[1][:, :end], known[0][:, start:], known[1][:, start:]
        forecast, _ = self._forecast(model, batch)
        return times[end:], windows.in_units(forecast[0])

    def _forecast(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        past, past_mark, target, target_mark = batch
        pred_len = self.settings.data.pred_len
        known = F.pad(target[:, :-pred_len], (0, 0, 0, pred_len))
        return model(past, past_mark, known, target_mark).float(), target[:, -pred_len:]


def _evenly_spread(wanted: int | None, windows: int, part: str) -> Tensor:
    if wanted is None:
        return torch.arange(windows)
    if wanted > windows:
        raise ValueError(f"data.{part}_windows {wanted} exceeds the {windows} windows of the {part} part")
    return torch.from_numpy(np.linspace(0, windows - 1, wanted).round().astype(np.int64))
