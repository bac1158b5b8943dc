"""What is trained: a task gives the model, its batches, its loss and its metrics.

A task is named in an experiment file by a built-in name, that of a folder of this room, or as `package.module:Class`.
"""

from oialr_hpo.section import Section
from oialr_hpo.tasks.loading import BUILT_IN, load_settings, load_task
from oialr_hpo.tasks.task import DataError, Split, Task, TaskSettings

__all__ = [
    "BUILT_IN",
    "DataError",
    "Section",
    "Split",
    "Task",
    "TaskSettings",
    "load_settings",
    "load_task",
]
