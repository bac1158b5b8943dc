"""A task of one's own: how a patient's diabetes goes on within a year, foretold from ten numbers.

    python -m oialr_hpo.search examples/tabular.yaml --jobs 2    # half a minute
    python -m oialr_hpo.export runs/tabular
    python -m oialr_hpo.train runs/tabular/best/tabular-1.yaml --seeds 0 1 2 --split test

442 real patients (Efron et al. 2004), which ship with scikit-learn. What else a task may have: docs/task.md.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from pydantic import Field
from sklearn.datasets import load_diabetes
from torch import Tensor, nn

from oialr_hpo.tasks import Section, Split, TaskSettings

Batch = tuple[Tensor, Tensor]


class Network(Section):
    width: int = Field(default=128, ge=1)


class DiabetesSettings(TaskSettings):
    """The sections `data` and `model` of the experiment file, checked; a search may change what they hold."""

    smaller_is_better = frozenset({"mae"})

    model: Network = Network()


class Diabetes:
    Settings = DiabetesSettings
    validates = True

    def __init__(
        self,
        settings: DiabetesSettings,
        *,
        batch_size: int,
        seed: int,
        device: torch.device,
        data_dir: Path | None,
        split: Split,
    ) -> None:
        self.width, self.batch_size, self.seed, self.split = settings.model.width, batch_size, seed, split
        x, y = (torch.tensor(each, dtype=torch.float32) for each in load_diabetes(return_X_y=True, scaled=False))
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
        rows = dict(zip(("training", "validation", "test"), order.split([266, 88, 88]), strict=True))
        mean, std = x[rows["training"]].mean(0), x[rows["training"]].std(0)
        self.mean, self.std = y[rows["training"]].mean(), y[rows["training"]].std()
        x, y = ((x - mean) / std).to(device), ((y - self.mean) / self.std).to(device)
        self.parts = {name: (x[chosen], y[chosen]) for name, chosen in rows.items()}
        self.steps_per_epoch = len(rows["training"]) // batch_size

    def build_model(self) -> nn.Module:
        width = self.width
        return nn.Sequential(nn.Linear(10, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        """The same for the same seed and epoch, so that a training that was interrupted goes on as if it had not."""
        x, y = self.parts["training"]
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1000 * self.seed + epoch))
        for rows in order.split(self.batch_size)[: self.steps_per_epoch]:
            yield x[rows], y[rows]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        x, y = batch
        return nn.functional.mse_loss(model(x).squeeze(1), y)

    def evaluate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """The mean absolute error, on the scale of the data: 25 to 346, with a standard deviation of 77."""
        x, y = self.parts[split]
        return {"mae": (self.std * (model(x).squeeze(1) - y).abs().mean()).item()}
