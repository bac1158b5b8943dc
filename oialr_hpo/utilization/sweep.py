"""A family of networks at several tolerances: trained, analysed, cut down and fine-tuned; the same command goes on.

What is done lies in a directory of its own for each network and tolerance, and is not done again; a training goes on
from its checkpoint, an analysis after its last layer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from oialr_hpo.experiment import Experiment
from oialr_hpo.files import write_whole
from oialr_hpo.mistake import Mistake
from oialr_hpo.training import devices
from oialr_hpo.training.loop import train
from oialr_hpo.utilization.images import image_task
from oialr_hpo.utilization.kept import FILE, SWEEP, Kept, read
from oialr_hpo.utilization.measuring import Options, measure
from oialr_hpo.utilization.weights import is_pretrained, trained_network


@dataclass(frozen=True)
class Sweep:
    """What is done to which networks, and where.

    Attributes:
        networks: as `model.name` calls them.
        checkpoint: of the only network; None: they are pretrained, or trained here.
    """

    experiment: Experiment
    networks: Sequence[str]
    tolerances: Sequence[float]
    options: Options
    checkpoint: Path | None
    out: Path

    def unfinished(self) -> list[Experiment]:
        """Of the networks that something is left to do for, one each."""
        return [experiment for experiment in self._experiments() if self._left(experiment)]

    def check(self) -> None:
        """Refuse to mix results of different settings in one directory.

        Raises:
            Mistake: that would be so.
        """
        if self._file.exists() and self._file.read_text() != self._settings():
            raise Mistake(f"{self.out} holds results of other settings, see {self._file}; choose another --out")

    def run(self, data_dir: Path | None) -> list[Kept]:
        """Do what is left to do; all results, by network and tolerance."""
        self.out.mkdir(parents=True, exist_ok=True)
        write_whole(self._file, self._settings())
        for experiment in self.unfinished():
            task = image_task(experiment, data_dir)
            network = trained_network(experiment, task, self._weights(experiment, task))
            for tolerance, place in self._left(experiment).items():
                print(f"\n{experiment.model['name']} at a tolerance of {tolerance:g} %", flush=True)
                measure(network, experiment, task, tolerance, self.options, place)
        return [read(place) for experiment in self._experiments() for place in self._places(experiment).values()]

    @property
    def _file(self) -> Path:
        return self.out / SWEEP

    def _settings(self) -> str:
        """All that results depend on, but their network and tolerance."""
        others = {key: value for key, value in self.experiment.model.items() if key != "name"}
        content = {"experiment": self.experiment.dump() | {"model": others}, **asdict(self.options)}
        content["checkpoint"] = self.checkpoint and str(self.checkpoint)
        return json.dumps(content, indent=1, default=str)

    def _experiments(self) -> list[Experiment]:
        return [self.experiment.with_settings({"model.name": network}) for network in self.networks]

    def _places(self, experiment: Experiment) -> dict[float, Path]:
        return {each: self.out / f"{_plain(experiment)}-{each:g}" for each in self.tolerances}

    def _left(self, experiment: Experiment) -> dict[float, Path]:
        return {each: place for each, place in self._places(experiment).items() if not (place / FILE).exists()}

    def _weights(self, experiment: Experiment, task: Any) -> Path | None:
        """The file of them; None: they are pretrained."""
        if self.checkpoint or is_pretrained(experiment):
            return self.checkpoint
        file = self.out / f"{_plain(experiment)}.safetensors"
        if not file.exists():
            name, total = experiment.model["name"], experiment.training.epochs
            dense = experiment.with_settings({"method": "dense"})
            checkpoint = file.with_suffix(".pt")
            for record in train(dense, task, dense.seed, devices.choose(0), checkpoint, weights=file):
                told = "".join(
                    f"  {metric} {record[metric]:.4g}" for metric in ("train_loss", "top1") if metric in record
                )
                print(f"{name}, dense  epoch {record['epoch']}/{total}{told}", flush=True)
            checkpoint.unlink(missing_ok=True)
        return file


def _plain(experiment: Experiment) -> str:
    """A network's name as that of a file."""
    return str(experiment.model["name"]).replace("/", "-")
