"""Recorded trainings: whole curves of many settings, each with several seeds, in one small file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oialr_hpo.experiment import Experiment, recorded
from oialr_hpo.experiment.space import Value, as_text
from oialr_hpo.files import whole
from oialr_hpo.mistake import Mistake
from oialr_hpo.runs import layers
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.record import key

RECORDS = "that ship, or files"
"""What values of `--records` are."""
DIGITS = 5
"""Significant ones that are kept."""


def built_in(name: str) -> Path:
    """The file of an experiment that the package ships."""
    return Path(__file__).parent / "recorded" / f"{name}.npz"


def find(name: str) -> Path:
    """The file that a value of `--records` means.

    Raises:
        Mistake: there is none.
    """
    file = Path(name) if Path(name).suffix == ".npz" else built_in(name)
    if not file.is_file():
        raise Mistake(f"{name}: no records; python -m oialr_hpo.benchmark record makes some")
    return file


@dataclass(frozen=True)
class Records:
    """What became of trainings.

    Attributes:
        experiment: that was trained, with its search space.
        settings: (n,) searched settings.
        curves: by metric (`seconds` since the training began among them), (n, seeds, epochs); NaN after a failure.
        low_rank: (n, seeds, epochs), whether the change-over was behind it.
    """

    experiment: Experiment
    settings: list[dict[str, Value]]
    curves: dict[str, NDArray[np.float32]]
    low_rank: NDArray[np.bool_]

    @classmethod
    def of(cls, runs: Sequence[RunDirectory]) -> "Records":
        """Of searches that trained the same settings, each with other seeds."""
        experiment = runs[0].experiment
        trained = [{as_text(trial.settings): trial for trial in run.trials()} for run in runs]
        settings = [trial.settings for trial in runs[0].trials()]
        names = dict.fromkeys((*experiment.score.metrics, "trainable_percent", "total_percent", "seconds"))
        shape = len(settings), len(runs), experiment.training.epochs
        curves = {name: np.full(shape, np.nan, np.float32) for name in names}
        low_rank = np.zeros(shape, bool)
        for place, each in enumerate(settings):
            for seed, run in enumerate(trained):
                for record in run[as_text(each)].epochs:
                    at = place, seed, record["epoch"] - 1
                    low_rank[at] = bool(layers.kept(record))
                    for name in names:
                        curves[name][at] = float(f"{record[key(record, name)]:.{DIGITS}g}")
        return cls(experiment, settings, curves, low_rank)

    def save(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        described = json.dumps({"experiment": self.experiment.dump(), "settings": self.settings})
        content: dict[str, Any] = {f"curve:{name}": curve for name, curve in self.curves.items()}
        with whole(file) as partial, open(partial, "wb") as opened:
            np.savez_compressed(opened, described=np.array(described), low_rank=self.low_rank, **content)

    @classmethod
    def load(cls, file: Path) -> "Records":
        with np.load(file) as content:
            described = json.loads(str(content["described"]))
            curves = {name[6:]: content[name] for name in content.files if name.startswith("curve:")}
            experiment = recorded(described["experiment"], str(file))
            return cls(experiment, described["settings"], curves, content["low_rank"])
