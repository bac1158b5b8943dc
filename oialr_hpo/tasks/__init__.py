"""What is trained: a task gives the model, its batches, its loss and its metrics.

A task is named in an experiment file by a built-in name or as `package.module:Class`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from oialr_hpo.extension import resolve
from oialr_hpo.mistake import Mistake
from oialr_hpo.section import Section

if TYPE_CHECKING:
    import torch
    from torch import nn

Split = Literal["validation", "test"]


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
        """


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
        LookupError: there is no such task, or it lacks what a task has.
    """
    loaded: type[Task] = resolve(BUILT_IN[task][1] if task in BUILT_IN else task, "task", BUILT_IN)
    if task not in BUILT_IN and (wrong := _wrong_with(loaded)):
        raise LookupError(f"{task!r} is no task: {wrong}; see oialr_hpo.tasks.Task")
    return loaded


def _wrong_with(task: object) -> str | None:
    """What makes a task unusable, as far as its class tells."""
    if not isinstance(task, type):
        return f"it is no class but {type(task).__name__}"
    settings = getattr(task, "Settings", None)
    if not (isinstance(settings, type) and issubclass(settings, TaskSettings)):
        return "it has no class Settings that extends oialr_hpo.tasks.TaskSettings"
    methods = ("build_model", "train_batches", "loss", "evaluate")
    if missing := [name for name in methods if getattr(task, name, None) in (None, getattr(Task, name))]:
        return f"it has no {', '.join(missing)}"
    asked = {"__init__": dict.fromkeys(("batch_size", "seed", "device", "data_dir", "split"))}
    for name in ("__init__", *methods):
        given = [None] * (1 + {"build_model": 0, "loss": 2, "evaluate": 2}.get(name, 1))
        method = inspect.getattr_static(task, name)
        try:
            if inspect.isfunction(method):
                inspect.signature(method).bind(*given, **asked.get(name, {}))
        except TypeError as error:
            return f"{name}: {error}"
    return None
