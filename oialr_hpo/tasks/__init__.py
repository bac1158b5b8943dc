"""What is trained: a task gives the model, its batches, its loss and its metrics.

A task is named in an experiment file by a built-in name or as `package.module:Class`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from oialr_hpo.mistake import Mistake

if TYPE_CHECKING:
    import torch
    from torch import nn

Split = Literal["validation", "test"]


class DataError(Mistake):
    """Data is missing or damaged; the message is one line that says where and what to do."""


class Section(BaseModel):
    """A section of an experiment file; this one has no settings."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


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


class Task(Protocol):
    """What a training loop asks of a task.

    Attributes:
        Settings: checks the sections `data` and `model` of an experiment file.
        split: what the run is for: `validation` selects settings, `test` reports the chosen ones.
        validates: whether `evaluate(model, "validation")` is possible. A task that trains on the validation part too
            when its split is `test` says no then.
        steps_per_epoch: optimizer steps in an epoch.
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
        """The metrics of a split; the model is in eval mode, gradients are off."""


# name -> (settings, task). The settings import no torch, so that a search can check a file without it.
BUILT_IN = {
    "image_classification": (
        "oialr_hpo.tasks.image_settings:ImageClassificationSettings",
        "oialr_hpo.tasks.image_classification:ImageClassification",
    ),
    "image_folder": (
        "oialr_hpo.tasks.image_settings:ImageFolderSettings",
        "oialr_hpo.tasks.image_folder:ImageFolder",
    ),
    "forecasting": (
        "oialr_hpo.tasks.forecasting_settings:ForecastingSettings",
        "oialr_hpo.tasks.forecasting:Forecasting",
    ),
}


def load_settings(task: str) -> type[TaskSettings]:
    """The class that checks the sections `data` and `model` of a task.

    Raises:
        LookupError: there is no such task.
    """
    if task in BUILT_IN:
        settings: type[TaskSettings] = resolve(BUILT_IN[task][0])
        return settings
    return load_task(task).Settings


def load_task(task: str) -> type[Task]:
    """The class of a task.

    Raises:
        LookupError: there is no such task.
    """
    loaded: type[Task] = resolve(BUILT_IN[task][1] if task in BUILT_IN else task)
    return loaded


def resolve(path: str) -> Any:
    """Import `package.module:name`.

    Raises:
        LookupError: the module or the name does not exist.
    """
    module, _, name = path.partition(":")
    if not module or not name:
        raise LookupError(f"{path!r} is neither a built-in task ({', '.join(BUILT_IN)}) nor package.module:Class")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise LookupError(f"{path!r}: {error}; is its directory on PYTHONPATH?") from None
    except AttributeError:
        raise LookupError(f"{path!r}: module {module} has no {name}") from None
