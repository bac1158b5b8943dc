"""Trials and their epochs as columns and rows: for CSV, for pandas, for whatever reads tables."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from oialr_hpo.experiment import Experiment
from oialr_hpo.mistake import Mistake
from oialr_hpo.runs.trial import Trial

if TYPE_CHECKING:
    import pandas

OF_A_TRIAL = ("number", "role", "state", "reason", "worker", "seed", "started", "seconds", "setup_seconds", "violation")


class Rows(NamedTuple):
    """A table: the names of its columns, and its rows."""

    columns: list[str]
    rows: list[list[Any]]

    def to_dataframe(self) -> "pandas.DataFrame":
        """The same for pandas.

        Raises:
            Mistake: it is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise Mistake('tables need pandas; pip install "oialr_hpo[analysis]"') from None
        return pandas.DataFrame(self.rows, columns=self.columns)


def of_trials(trials: Sequence[Trial], experiment: Experiment) -> Rows:
    """A row per trial: what it was, how it ended, its settings and, as `metric:NAME`, its scored metrics."""
    goals, keys = experiment.score.metrics, list(experiment.space.parameters)
    scores = [f"score:{name}" for name in goals] if len(goals) > 1 else ["score"]
    metrics = _numbers(trial.metrics for trial in trials)
    rows = []
    for trial in trials:
        row: list[Any] = [trial.number, trial.role.value, trial.state.value, trial.reason, trial.worker, trial.seed]
        started = datetime.fromtimestamp(trial.started, timezone.utc).isoformat(timespec="seconds")
        row += [started, trial.seconds, trial.setup_seconds, trial.violation]
        row += trial.scores or [None] * len(scores)
        row += [trial.settings.get(key) for key in keys]
        rows.append(row + [trial.metrics.get(name) for name in metrics])
    return Rows([*OF_A_TRIAL, *scores, *keys, *(f"metric:{name}" for name in metrics)], rows)


def of_epochs(trials: Sequence[Trial]) -> Rows:
    """A row per epoch of every trial: its number, and the numbers of the epoch's record."""
    names = _numbers(record for trial in trials for record in trial.epochs)
    records = [(trial.number, record) for trial in trials for record in trial.epochs]
    return Rows(["trial", *names], [[number, *map(record.get, names)] for number, record in records])


def _numbers(records: Iterable[dict[str, Any]]) -> list[str]:
    """The names of all that is a number in one of the records."""
    named = ((name, value) for record in records for name, value in record.items())
    return list(dict.fromkeys(name for name, value in named if isinstance(value, (int, float))))
