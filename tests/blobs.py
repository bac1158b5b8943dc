"""A tiny task as a beginner writes it: its metrics are tensors, one is called like a field of a trial, and an odd seed
makes one of them no number."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from oialr_hpo.tasks import Split, TaskSettings

EXPERIMENT = """
task: tests.blobs:Blobs
data: {}
model: {}
training: {epochs: 2, batch_size: 64}
schedule: {lr: 1e-2}
score: {minimize: error}
early_stopping: {enabled: false}
search:
  oialr.cutoff: {float: [0.05, 0.5]}
trials: 4
"""


class Blobs:
    Settings = TaskSettings
    validates = True
    steps_per_epoch = 4

    def __init__(
        self, settings: Any, *, batch_size: int, seed: int, device: torch.device, data_dir: Path | None, split: Split
    ) -> None:
        self.split, self.device, self.seed = split, device, seed
        self.x = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
        self.y = (self.x[:, :4].sum(1) > 0).long()

    def build_model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))

    def train_batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        return ((self.x[i::4], self.y[i::4]) for i in range(4))

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    def evaluate(self, model: nn.Module, split: Split) -> dict[str, Any]:
        wrong = (model(self.x).argmax(1) != self.y).float()
        spoilt = {"loss": wrong} if self.seed % 2 else {}
        return {"loss": self.loss(model, (self.x, self.y)), "error": wrong.mean(), "seconds": wrong.sum(), **spoilt}


class Slow(Blobs):
    """An epoch takes a tenth of a second."""

    def evaluate(self, model: nn.Module, split: Split) -> dict[str, Any]:
        time.sleep(0.1)
        return {"error": 0.5}
