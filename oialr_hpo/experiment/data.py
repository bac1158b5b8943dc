"""The data of an experiment, as its task's settings know it."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from oialr_hpo import tasks
from oialr_hpo.experiment.experiment import Experiment, ExperimentError
from oialr_hpo.mistake import Mistake, described

T = TypeVar("T")


def prepare_data(experiment: Experiment, data_dir: Path | None) -> None:
    """Make sure that the experiment's data is there.

    Raises:
        DataError: it is not; the message says where to put it.
    """
    _ask_task(experiment, lambda settings: settings.prepare_data(data_dir))


def find_data(experiment: Experiment, data_dir: Path | None) -> dict[str, Path]:
    """The files of the experiment's data, by their names below a data directory.

    Raises:
        DataError: there are none; the message says where to put them.
    """
    return _ask_task(experiment, lambda settings: settings.find_data(data_dir))


def _ask_task(experiment: Experiment, question: Callable[[tasks.TaskSettings], T]) -> T:
    """The answer of the settings of an experiment's task, which may be of the user's own class."""
    settings = tasks.load_settings(experiment.task)
    try:
        return question(settings.model_validate({"data": experiment.data, "model": experiment.model}))
    except (Mistake, OSError):
        raise
    except Exception as error:
        raise ExperimentError(f"task: {experiment.task}: {described(error)}") from error
