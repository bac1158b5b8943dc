"""A task from outside the package: a small character-level language model of Python's own documentation."""

from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from oialr_hpo.tasks import Split, TaskSettings

CHARACTERS = 128


class Text(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    context: int
    windows: int


class Perceptron(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    width: int


class CharacterSettings(TaskSettings):
    smaller_is_better = frozenset({"bits_per_character"})

    data: Text
    model: Perceptron


class CharacterModel:
    Settings = CharacterSettings
    validates = True

    def __init__(
        self,
        settings: CharacterSettings,
        *,
        batch_size: int,
        seed: int,
        device: torch.device,
        data_dir: Path | None,
        split: Split,
    ) -> None:
        text = "".join(topics.values()).encode("ascii", errors="ignore")
        windows = torch.tensor(list(text[:200_000]), device=device).unfold(0, settings.data.context + 1, 7)
        windows = windows[torch.randperm(len(windows), generator=torch.Generator().manual_seed(0))]
        count = settings.data.windows
        self._training, held_out = windows[:count], windows[count : count + 2000]
        self._held_out = {"validation": held_out[:1000], "test": held_out[1000:]}
        self._settings, self._batch_size, self._seed, self.split = settings, batch_size, seed, split
        self.steps_per_epoch = count // batch_size

    def build_model(self) -> nn.Module:
        width = self._settings.model.width
        return nn.Sequential(
            nn.Embedding(CHARACTERS, 16),
            nn.Flatten(),
            nn.Linear(16 * self._settings.data.context, width),
            nn.GELU(),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Linear(width, CHARACTERS),
        )

    def train_batches(self, epoch: int) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(1000 * self._seed + epoch)
        order = torch.randperm(len(self._training), generator=generator).to(self._training.device)
        for step in range(self.steps_per_epoch):
            yield self._training[order[step * self._batch_size : (step + 1) * self._batch_size]]

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        return F.cross_entropy(model(batch[:, :-1]), batch[:, -1])

    def evaluate(self, model: nn.Module, split: Split) -> dict[str, float]:
        return {"bits_per_character": self.loss(model, self._held_out[split]).item() / 0.6931471805599453}
