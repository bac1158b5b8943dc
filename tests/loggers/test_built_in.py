"""The built-in loggers, with the real packages; what they wrote is read back by these."""

from pathlib import Path

import pytest

from oialr_hpo.runs.directory import RunDirectory
from tests.engines.test_propulate import SCRIPT, mpirun, needs_mpi
from tests.loggers.test_loggers import searched


def scalars(directory: Path, tag: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(directory))
    read.Reload()
    return [(event.step, event.value) for event in read.Scalars(tag)]


def errors(run: RunDirectory, number: int) -> list[tuple[int, float]]:
    trial = next(trial for trial in run.trials() if trial.number == number)
    return [(record["epoch"], pytest.approx(record["error"])) for record in trial.epochs]


def test_tensorboard_shows_curves_and_settings(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    run = searched(tmp_path / "run", "tensorboard", trials=2)
    searched(run.path, "tensorboard", trials=3, resume=True)
    directory = run.path / "tensorboard"
    assert sorted(each.name for each in directory.iterdir()) == [f"trial-0000{number}" for number in range(3)]
    for trial in run.trials():
        place = directory / f"trial-{trial.number:05d}"
        assert scalars(place, "error") == errors(run, trial.number)
        assert scalars(place, "score") == [(3, pytest.approx(trial.score))]
        read = EventAccumulator(str(place))
        read.Reload()
        content = read.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
        settings = metadata.parse_session_start_info_plugin_data(content).hparams
        assert settings["role"].string_value == trial.role.value
        for key, value in trial.settings.items():
            known = settings[key]
            assert getattr(known, known.WhichOneof("kind")) == value


@needs_mpi
def test_tensorboard_over_mpi(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    out = tmp_path / "run"
    done = mpirun(2, "-c", SCRIPT, str(out), "tests.objectives:bowl", "", "trials=4", "loggers=[tensorboard]")
    assert done.returncode == 0 and "warning" not in done.stderr, done.stderr
    run = RunDirectory.open(out)
    assert len(run.trials()) == 4
    for trial in run.trials():
        assert scalars(out / "tensorboard" / f"trial-{trial.number:05d}", "error") == errors(run, trial.number)
