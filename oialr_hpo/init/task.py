"""A task: a perceptron tells benign tumours from malignant ones by 30 numbers, on data that ships with scikit-learn."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from oialr_hpo.tasks import Section, Split, TaskSettings


class Size(Section):
    """Of the network."""

    width: int = Field(default=64, ge=1)


class TumourSettings(TaskSettings):
    """The sections `data` and `model` of the experiment file, checked; a search may change what they hold."""

    smaller_is_better = frozenset({"error", "loss"})

    model: Size = Size()


class Task:
    """What the training loop asks for, see `oialr_hpo.tasks.Task`."""

    Settings = TumourSettings
    validates = True

    def __init__(
        self,
        settings: TumourSettings,
        *,
        batch_size: int,
        seed: int,
        device: torch.device,
        data_dir: Path | None,
        split: Split,
    ) -> None:
        self.settings, self.batch_size, self.seed, self.split = settings, batch_size, seed, split
        inputs, classes = load_breast_cancer(return_X_y=True)
        inputs, tested, classes, of_tested = train_test_split(inputs, classes, test_size=0.2, random_state=0)
        inputs, validated, classes, of_validated = train_test_split(inputs, classes, test_size=0.25, random_state=0)
        self._mean, self._std = inputs.mean(0), inputs.std(0)  # of the training part alone
        self._train = self._tensors(inputs, classes, device)
        self._measured = {
            "validation": self._tensors(validated, of_validated, device),
            "test": self._tensors(tested, of_tested, device),
        }
        self.steps_per_epoch = len(classes) // batch_size

    def _tensors(self, inputs: Any, classes: Any, device: torch.device) -> tuple[Tensor, Tensor]:
        scaled = torch.tensor((inputs - self._mean) / self._std, dtype=torch.float32)
        return scaled.to(device), torch.tensor(classes).to(device)

    def build_model(self) -> nn.Module:
        """The dense network; OIALR makes it low-rank."""
        width = self.settings.model.width
        return nn.Sequential(nn.Linear(30, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))

    def train_batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The same for the same seed and epoch, so that an interrupted training goes on as if it had not been."""
        inputs, classes = self._train
        order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(1000 * self.seed + epoch))
        for chosen in order.to(classes.device).split(self.batch_size)[: self.steps_per_epoch]:
            yield inputs[chosen], classes[chosen]

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        inputs, classes = batch
        return cross_entropy(model(inputs), classes)

    def evaluate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """The model is in eval mode, gradients are off."""
        inputs, classes = self._measured[split]
        scores = model(inputs)
        error = (scores.argmax(1) != classes).float().mean()
        return {"loss": cross_entropy(scores, classes).item(), "error": error.item()}
