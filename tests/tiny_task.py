"""A task that trains in milliseconds: a residual network of three layers learns a random one's outputs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from oialr_hpo.experiment import Experiment
from oialr_hpo.tasks import Split, TaskSettings

WIDTH = 16


class Data(BaseModel):
    """Of `samples`; the loss is multiplied by `scale`."""

    model_config = ConfigDict(extra="forbid", strict=True)
    samples: int = 96
    scale: float = 1.0


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    dropout: float = 0.1
    batch_norm: bool = True
    tells_layers: bool = True


class TinySettings(TaskSettings):
    data: Data
    model: Model


class Network(nn.Module):
    def __init__(self, dropout: float, batch_norm: bool):
        super().__init__()
        self.stem = nn.Linear(8, WIDTH)
        self.blocks = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(2))
        self.norm = nn.BatchNorm1d(WIDTH) if batch_norm else nn.LayerNorm(WIDTH)
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(WIDTH, 4)
        self.scale = nn.Parameter(torch.ones(1, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + self.dropout(torch.tanh(block(x)))
        outputs: Tensor = self.head(self.norm(x)) * self.scale
        return outputs


class Telling(Network):
    """Tells its layers and what is not to decay, as timm's networks do."""

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return {"stem": r"^stem", "blocks": [(r"^blocks\.(\d+)", None), (r"^norm|^scale", (99999,))]}

    def no_weight_decay(self) -> set[str]:
        return {"scale"}


class TinyTask:
    Settings = TinySettings
    validates = True

    def __init__(
        self,
        settings: TinySettings,
        *,
        batch_size: int,
        seed: int,
        device: torch.device,
        data_dir: Path | None,
        split: Split,
    ) -> None:
        self._settings, self._batch_size, self._seed, self.split = settings, batch_size, seed, split
        generator = torch.Generator().manual_seed(0)
        count = settings.data.samples
        self._inputs = torch.randn(count + 64, 8, generator=generator).to(device)
        self._outputs = torch.tanh(self._inputs @ torch.randn(8, 4, generator=generator).to(device))
        self._count, self._squares, self._seen = count, 0.0, 0
        self.steps_per_epoch = count // batch_size

    def build_model(self) -> nn.Module:
        kind = Telling if self._settings.model.tells_layers else Network
        return kind(self._settings.model.dropout, self._settings.model.batch_norm)

    def train_batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(self._count, generator=torch.Generator().manual_seed(1000 * self._seed + epoch))
        for chosen in order[: self.steps_per_epoch * self._batch_size].split(self._batch_size):
            yield self._inputs[chosen], self._outputs[chosen]

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        inputs, outputs = batch
        loss = F.mse_loss(model(inputs).float(), outputs)
        if model.training:
            self._squares, self._seen = self._squares + len(inputs) * loss.item(), self._seen + len(inputs)
        return self._settings.data.scale * loss

    def training_metrics(self) -> dict[str, tuple[float, int]]:
        taken = {"mse": (self._squares, self._seen)}
        self._squares, self._seen = 0.0, 0
        return taken

    def evaluate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """The error, and a fixed combination of the first block's weights: `mark`."""
        block: Any = model.blocks[0]  # type: ignore[index]
        weight = block.weight.detach().double()
        mark = (weight * torch.linspace(-1, 1, weight.numel(), device=weight.device).view_as(weight)).sum()
        held_out = slice(self._count, None)
        return {"mse": F.mse_loss(model(self._inputs[held_out]), self._outputs[held_out]).item(), "mark": mark.item()}


def tiny(**settings: Any) -> Experiment:
    """An experiment with this task: six steps an epoch, the change-over at step 8, then an update in two steps."""
    content = {
        "task": "tests.tiny_task:TinyTask",
        "data": {},
        "model": {},
        "training": {"epochs": 4, "batch_size": 16},
        "schedule": {"lr": 0.01, "min_lr": 0.001},
        "oialr": {"delay": 8, "frequency": 2, "cutoff": 0.5, "step_fraction": 0.5},
        "score": {"minimize": "mse"},
    }
    return Experiment.model_validate(content).with_settings(settings)
