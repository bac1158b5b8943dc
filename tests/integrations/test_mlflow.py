"""MLflow in a local database: what a search leaves is read back by its client."""

from pathlib import Path

import pytest

from tests.loggers.test_built_in import errors
from tests.loggers.test_loggers import searched

pytest.importorskip("mlflow", reason="mlflow is not installed: tests/integrations/run.sh installs it")


def test_a_run_for_each_trial_in_an_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = searched(tmp_path / "run", "mlflow", trials=2)
    searched(run.path, "mlflow", trials=3, resume=True)
    assert "warning" not in capfd.readouterr().err
    client = MlflowClient(tracking_uri=f"sqlite:///{run.path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("run")
    assert experiment is not None
    found = sorted(client.search_runs([experiment.experiment_id]), key=lambda each: int(each.data.tags["trial"]))
    assert len(found) == 3
    for trial, each in zip(run.trials(), found, strict=True):
        assert each.info.run_name == f"trial-{trial.number:05d}" and each.info.status == "FINISHED"
        assert each.data.params == {key: str(value) for key, value in trial.settings.items()}
        assert (each.data.tags["state"], each.data.tags["role"]) == ("complete", trial.role.value)
        assert each.data.metrics["score"] == pytest.approx(trial.score)
        history = client.get_metric_history(each.info.run_id, "error")
        assert [(metric.step, metric.value) for metric in history] == errors(run, trial.number)
