"""A user's own task: a small network learns a fixed random one's outputs. It imports what the README documents."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from oialr_hpo.tasks import Split, TaskSettings


class Data(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    samples: int = 64


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    activation: str = "Tanh"


class WavesSettings(TaskSettings):
    smaller_is_better = frozenset({"mse"})

    data: Data
    model: Model


class Waves:
    Settings = WavesSettings
    validates = True

    def __init__(
        self,
        settings: WavesSettings,
        *,
        batch_size: int,
        seed: int,
        device: torch.device,
        data_dir: Path | None,
        split: Split,
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        self._count, self._batch_size, self._seed, self.split = settings.data.samples, batch_size, seed, split
        self._activation = settings.model.activation
        self._inputs = torch.randn(2 * self._count, 8, generator=generator).to(device)
        self._outputs = torch.sin(self._inputs @ torch.randn(8, 4, generator=generator).to(device))
        self.steps_per_epoch = self._count // batch_size

    def build_model(self) -> nn.Module:
        activation = getattr(nn, self._activation)  # raises where there is none
        return nn.Sequential(
            *(nn.Linear(8, 16), activation(), nn.Linear(16, 16), activation()),
            *(nn.Linear(16, 16), activation(), nn.Linear(16, 4)),
        )

    def train_batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(self._count, generator=torch.Generator().manual_seed(1000 * self._seed + epoch))
        for chosen in order.split(self._batch_size):
            yield self._inputs[chosen], self._outputs[chosen]

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.mse_loss(model(batch[0]).float(), batch[1])

    def evaluate(self, model: nn.Module, split: Split) -> dict[str, float]:
        time.sleep(float(os.environ.get("WAVES_PAUSE", 0)))
        return {"mse": self.loss(model, (self._inputs[self._count :], self._outputs[self._count :])).item()}
