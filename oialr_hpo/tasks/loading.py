"""A task by its name: a built-in one, or someone's own as `package.module:Class`."""

import importlib
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

from oialr_hpo.extension import cannot_take, resolve, wrong_call
from oialr_hpo.tasks.task import AnySettings, Task, TaskSettings

BUILT_IN = tuple(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]) if module.ispkg)
"""The folders of this room. Each has `Settings`, and `Task`, which is asked for only where torch may be imported."""
MADE_WITH = ("batch_size", "seed", "device", "data_dir", "split")
"""What `Task.__init__` takes by name, after the settings; Python 3.10 forgets how a protocol's is declared."""


def load_settings(task: str | None) -> type[TaskSettings]:
    """The class that checks the sections `data` and `model` of a task, or of an experiment without one.

    Raises:
        LookupError: there is no such task.
    """
    if task is None:
        return AnySettings
    if task in BUILT_IN:
        settings: type[TaskSettings] = _built_in(task).Settings
        return settings
    return _settings_beside(task) or load_task(task).Settings


def _settings_beside(task: str) -> type[TaskSettings] | None:
    """`Settings` of a module that loads its task only when it is asked for it, as the built-in ones do, since that
    imports torch."""
    module, _, name = task.partition(":")
    try:
        settings = resolve(f"{module}:Settings", "task")
    except LookupError:
        return None
    lazy = name not in vars(sys.modules[module]) and name in getattr(sys.modules[module], "__all__", ())
    return settings if lazy and isinstance(settings, type) and issubclass(settings, TaskSettings) else None


def load_task(task: str | None) -> type[Task]:
    """The class of a task.

    Raises:
        LookupError: there is no such task, or it lacks what a task has.
    """
    if task is None:
        raise LookupError("this experiment has none, its objective trains; name a task for what the package trains")
    loaded: type[Task] = _built_in(task).Task if task in BUILT_IN else resolve(task, "task", BUILT_IN)
    if task not in BUILT_IN and (wrong := _wrong_with(loaded)):
        raise LookupError(f"{task!r} is no task: {wrong}; see oialr_hpo.tasks.Task")
    return loaded


def _built_in(task: str) -> ModuleType:
    return importlib.import_module(f"{__package__}.{task}")


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
    return cannot_take(task, "__init__", 2, MADE_WITH) or wrong_call(task, Task, methods)
