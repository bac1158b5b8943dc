"""A training that is interrupted, and goes on."""

from pathlib import Path
from typing import Any

import pytest

from oialr_hpo.experiment import Experiment
from oialr_hpo.training.objective import evaluate


def interrupted_after(
    epochs: int, experiment: Experiment, directory: Path, seed: int, weights: Path | None = None
) -> list[dict[str, Any]]:
    """The records of both its parts; a file in the directory keeps it in between."""
    checkpoint = directory / "checkpoint.pt"
    first = evaluate(experiment, seed=seed, checkpoint=checkpoint)
    records = [next(first) for _ in range(epochs)]
    with pytest.raises(StopIteration):
        first.send("interrupt")
    return [*records, *evaluate(experiment, seed=seed, checkpoint=checkpoint, weights=weights)]
