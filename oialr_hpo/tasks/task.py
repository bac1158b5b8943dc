"""What a task is: it gives the model, its batches, its loss and its metrics."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from pydantic import ConfigDict

from oialr_hpo.mistake import Mistake
from oialr_hpo.section import Section

if TYPE_CHECKING:
    import torch
    from torch import nn

Split = Literal["validation", "test"]
"""Part of the data that a task measures on."""


class DataError(Mistake):
    """Data is missing or damaged; the message is one line that says where and what to do."""


class TaskSettings(Section):
    """The sections `data` and `model` of an experiment file, as a task wants them; without settings as they are.

    A task says here which of its metrics are better when smaller or larger, so that a search in the wrong direction is
    refused; one that it does not name may be searched in either.
    """

    smaller_is_better: ClassVar[frozenset[str]] = frozenset()
    larger_is_better: ClassVar[frozenset[str]] = frozenset()

    data: Section = Section()
    model: Section = Section()

    def find_data(self, data_dir: Path | None) -> dict[str, Path]:
        """The files of the data by their names below a data directory: what a copy on a local disk needs.

        Raises:
            DataError: they are missing.
        """
        if data_dir is None:
            return {}
        return {str(file.relative_to(data_dir)): file for file in data_dir.rglob("*") if file.is_file()}

    def prepare_data(self, data_dir: Path | None) -> None:
        """Make sure that the data is there, once, before many processes read it.

        Raises:
            DataError: it is not.
        """

    def build_model(self) -> nn.Module | None:
        """The task's network, freshly initialised, where these settings tell it without the data; None: they do not.

        What a colleague without the data loads a trained network into, see `oialr_hpo.load`.
        """
        return None


class Anything(Section):
    """A section whose keys are the user's own."""

    model_config = ConfigDict(extra="allow")


class AnySettings(TaskSettings):
    """The sections `data` and `model` of an experiment without a task."""

    data: Anything = Anything()
    model: Anything = Anything()


class Task(Protocol):
    """What a training loop asks of a task.

    Attributes:
        Settings: checks the sections `data` and `model` of an experiment file.
        split: what the run is for: `validation` selects settings, `test` reports the chosen ones.
        validates: whether `evaluate(model, "validation")` is possible. A task that trains on the validation part too
            when its split is `test` says no then.
        steps_per_epoch: batches in an epoch, for an optimizer step each, or together (`training.accumulation_steps`).
    """

    Settings: type[TaskSettings]
    split: Split
    validates: bool
    steps_per_epoch: int

    def __init__(
        self,
        settings: Any,
        *,
        batch_size: int,
        seed: int,
        device: torch.device,
        data_dir: Path | None,
        split: Split,
    ) -> None: ...

    def build_model(self) -> nn.Module:
        """The dense model, freshly initialised from torch's global random state."""

    def train_batches(self, epoch: int) -> Iterable[Any]:
        """The batches of an epoch (1, 2, ...), on the device; the same for the same seed and epoch."""

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        """The scalar to minimise; called under autocast where that is on."""

    def evaluate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """The metrics of a split; the model is in eval mode, gradients are off.

        A task may take a third argument, `batches`: so many suffice, for the rehearsal before a search. Without it, its
        evaluation should take seconds, or what its metrics are called is not checked before.

        A task may have a method `training_metrics()` too, asked after every epoch: of what it saw in `loss` since the
        last call, by a metric's name its sum over the samples and their number. The record has the mean: `train_NAME`.
        """
