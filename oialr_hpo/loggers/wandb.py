"""Weights & Biases: a run for each trial, in a group for the search.

`WANDB_MODE` says whether to send them; where it does not and nobody is logged in, they are kept in RUN/wandb, and
`wandb sync` sends them. `WANDB_PROJECT` (by default oialr_hpo) and `WANDB_ENTITY` say where to.
"""

import os
import uuid
from collections.abc import Mapping
from typing import Any

from oialr_hpo.files import write_whole
from oialr_hpo.loggers._logger import Logger, name, numbers, results
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.trial import State, Trial


class WeightsAndBiases(Logger):
    """Metrics over `epoch`, the settings as the run's config, its score, state and reason as its summary.

    A trial that goes on does so under the same id. So does one that is run again from its beginning, whose epochs are
    there twice then: what was sent cannot be taken back.
    """

    needs = ("wandb",)

    def __init__(self, run: RunDirectory):
        super().__init__(run)
        self._runs: dict[int, Any] = {}

    def search_begins(self) -> None:
        import wandb

        self._mode: Any = os.environ.get("WANDB_MODE")
        if not self._mode:
            self._mode = "online" if wandb.login(prompt=False, verify=False) else "offline"
        identity = self.path / "wandb" / "search-id"
        if not identity.exists():
            identity.parent.mkdir(exist_ok=True)
            write_whole(identity, uuid.uuid4().hex[:8])
        self._identity = identity.read_text()

    def trial_begins(self, trial: Trial, told: float) -> None:
        import wandb

        run = wandb.init(
            dir=str(self.path),
            mode=self._mode,
            project=os.environ.get("WANDB_PROJECT", "oialr_hpo"),
            group=self.run.name,
            job_type=trial.role.value,
            name=name(trial),
            id=f"{self._identity}-{trial.number:05d}",
            resume="allow",
            reinit="create_new",  # trials run beside each other
            config={**trial.settings, "seed": trial.seed},
            settings=wandb.Settings(console="off", silent=True, x_disable_stats=True),
        )
        run.define_metric("*", step_metric="epoch")
        self._runs[trial.number] = run

    def epoch(self, trial: Trial, record: Mapping[str, Any]) -> None:
        self._runs[trial.number].log({"epoch": record["epoch"], **numbers(record)})

    def trial_ends(self, trial: Trial) -> None:
        run = self._runs.pop(trial.number)
        run.summary.update(results(trial, self.experiment) | {"state": trial.state.value, "reason": trial.reason})
        run.finish(exit_code=0 if trial.state in (State.COMPLETE, State.PAUSED, State.PRUNED) else 1)

    def search_ends(self) -> None:
        for run in self._runs.values():
            run.finish(exit_code=1)
