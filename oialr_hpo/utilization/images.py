"""The images of an experiment that its network is analysed with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from oialr_hpo.experiment import Experiment, ExperimentError
from oialr_hpo.training import devices
from oialr_hpo.training.objective import build_task


def image_task(experiment: Experiment, data_dir: Path | None) -> Any:
    """The experiment's task, on images that the analysis selects with: the validation split.

    Raises:
        ExperimentError: it is none that classifies images.
    """
    task: Any = build_task(experiment, seed=experiment.seed, device=devices.choose(0), data_dir=data_dir)
    if not hasattr(task, "evaluation_batches"):
        raise ExperimentError(f"task {experiment.task}: utilization needs one with evaluation_batches, as for images")
    return task
