"""What a comparison is: the rows of an experiment, as far as they were measured."""

from dataclasses import dataclass, field
from pathlib import Path

from oialr_hpo.experiment import Experiment
from oialr_hpo.runs.directory import RunDirectory

METHODS = ("dense", "untuned", "tuned", "dense, tuned")
"""The rows, in their order."""


@dataclass(frozen=True)
class Measured:
    """What was run for a row: the trainings on the test split and, of a tuned one, its search and the trainings again
    on the validation split."""

    tested: RunDirectory
    searched: RunDirectory | None = None
    again: RunDirectory | None = None


@dataclass
class Comparison:
    """The rows of one experiment, as far as they were measured.

    Attributes:
        experiment: as run here.
        original: as its file says, at full scale.
        rows: by method.
    """

    experiment_name: str
    experiment: Experiment
    original: Experiment
    rows: dict[str, Measured] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return Path(self.experiment_name).stem
