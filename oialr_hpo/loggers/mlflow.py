"""MLflow: an experiment for the search, a run for each trial, at MLFLOW_TRACKING_URI or in RUN/mlflow.db.

`mlflow ui --backend-store-uri sqlite:///RUN/mlflow.db` shows them; it is part of the whole package `mlflow`, of which
writing needs `mlflow-skinny` alone.
"""

import os
import re
import time
from collections.abc import Mapping
from typing import Any

from oialr_hpo.loggers._logger import Logger, name, numbers, results
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.trial import State, Trial

ENDS = {State.COMPLETE: "FINISHED", State.PAUSED: "FINISHED", State.PRUNED: "FINISHED", State.INTERRUPTED: "KILLED"}
"""What a run becomes; else it has failed."""


class MLflow(Logger):
    """Settings as params, metrics by epoch, the rest as tags. A trial that is run again from its beginning replaces its
    run."""

    needs = ("mlflow",)

    def __init__(self, run: RunDirectory):
        super().__init__(run)
        self._runs: dict[int, str] = {}  # their ids

    def search_begins(self) -> None:
        from mlflow import MlflowClient

        given = os.environ.get("MLFLOW_TRACKING_URI")
        self._client = MlflowClient(tracking_uri=given or f"sqlite:///{self.path / 'mlflow.db'}")
        found = self._client.get_experiment_by_name(self.run.name)
        artifacts = None if given else (self.path / "mlflow-artifacts").as_uri()
        self._experiment = found.experiment_id if found else self._client.create_experiment(self.run.name, artifacts)

    def trial_begins(self, trial: Trial, told: float) -> None:
        of_trial = {"search": str(self.path), "trial": str(trial.number)}
        runs = self._client.search_runs([self._experiment], f"tags.trial = '{trial.number}'")
        found = [run.info.run_id for run in runs if run.data.tags.get("search") == of_trial["search"]]
        for each in found if not told else []:
            self._client.delete_run(each)
        if found and told:
            self._runs[trial.number] = found[0]
            self._client.update_run(found[0], status="RUNNING")
            return
        tags = of_trial | {"role": trial.role.value, "seed": str(trial.seed), "state": trial.state.value}
        began = int(1000 * trial.started)
        run = self._client.create_run(self._experiment, start_time=began, tags=tags, run_name=name(trial))
        self._runs[trial.number] = run.info.run_id
        self._log(trial, params=trial.settings)

    def epoch(self, trial: Trial, record: Mapping[str, Any]) -> None:
        self._log(trial, numbers(record), int(record["epoch"]))

    def trial_ends(self, trial: Trial) -> None:
        last = int(trial.epochs[-1]["epoch"]) if trial.epochs else 0
        tags = {"state": trial.state.value} | ({"reason": trial.reason} if trial.reason else {})
        self._log(trial, results(trial, self.experiment), last, tags=tags)
        self._client.set_terminated(self._runs.pop(trial.number), ENDS.get(trial.state, "FAILED"))

    def _log(
        self,
        trial: Trial,
        metrics: Mapping[str, float] | None = None,
        epoch: int = 0,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        now = int(1000 * time.time())
        self._client.log_batch(
            self._runs[trial.number],
            [Metric(_key(key), value, now, epoch) for key, value in (metrics or {}).items()],
            [Param(_key(key), str(value)) for key, value in (params or {}).items()],
            [RunTag(key, value) for key, value in (tags or {}).items()],
        )


def _key(name: str) -> str:
    """A name as MLflow takes it."""
    return re.sub(r"[^\w\-. :/]", "_", name)
