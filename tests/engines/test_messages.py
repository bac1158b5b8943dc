"""Whatever a trial yields, raises, prints or does to its process costs that trial alone."""

from pathlib import Path

import pytest

from oialr_hpo import search, train
from oialr_hpo.experiment import load
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.trial import State
from oialr_hpo.status import status, summary
from tests.blobs import EXPERIMENT
from tests.engines.test_propulate import SCRIPT, mpirun, needs_mpi
from tests.engines.test_search import run
from tests.messages import BAD, GOOD

COUNT = len(GOOD) + len(BAD)


def check(finished: RunDirectory) -> None:
    """All trials ended as they had to, and every command that looks at them works."""
    trials = finished.trials()
    assert [trial.number for trial in trials] == list(range(COUNT))
    for trial in trials[: len(GOOD)]:
        assert (trial.state, trial.scores, trial.reason) == (State.COMPLETE, [0.25], None), trial.number
        assert 0 <= trial.seconds < 60
    for trial, (_, reason) in zip(trials[len(GOOD) :], BAD, strict=True):
        assert (trial.state, trial.reason) == (State.FAILED, reason)
    clash = next(trial for trial in trials if "task_state" in trial.metrics)
    assert clash.metrics["task_number"] == 99 and clash.metrics["task_score"] == 7.0
    assert status(finished)["trials"]["complete"] == len(GOOD) and summary(finished)


def test_a_trials_message_costs_that_trial_alone(tmp_path: Path) -> None:
    check(run(tmp_path, f"trials={COUNT}", objective="tests.messages:objective", jobs=3))


@needs_mpi
def test_the_same_over_mpi(tmp_path: Path) -> None:
    done = mpirun(3, "-c", SCRIPT, str(tmp_path), "tests.messages:objective", "", f"trials={COUNT}")
    assert done.returncode == 0, done.stderr
    check(RunDirectory.open(tmp_path))


def test_metrics_that_are_tensors_are_numbers_and_take_no_fields_place(tmp_path: Path) -> None:
    (tmp_path / "blobs.yaml").write_text(EXPERIMENT)
    finished = search.run(load(str(tmp_path / "blobs.yaml"), ["score.minimize=seconds"]), out=tmp_path / "run")
    trials = finished.trials()
    assert [trial.state for trial in trials] == [State.COMPLETE, State.FAILED] * 2
    for trial in trials[::2]:
        assert trial.scores == [trial.metrics["task_seconds"]] and trial.scores[0] == 64 * trial.metrics["error"]
        assert trial.metrics["seconds"] < 60 and trial.seconds < 60
    assert {trial.reason for trial in trials[1::2]} == {"the metric 'loss' is a Tensor of shape (64,), not a number"}


def test_train_says_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "blobs.yaml").write_text(EXPERIMENT)
    with pytest.raises(SystemExit) as ended:
        train.main([str(tmp_path / "blobs.yaml"), "--seeds", "0", "1", "--threads", "1"])
    printed = capsys.readouterr()
    assert ended.value.code == 1
    assert printed.err.splitlines()[-1] == "seed 1 failed: the metric 'loss' is a Tensor of shape (64,), not a number"
    assert "validation split, seeds 0 " in printed.out


@needs_mpi
def test_an_exception_that_cannot_be_sent_reaches_all_ranks() -> None:
    raising = """
from oialr_hpo.engines import mpi
from tests.messages import local
def action():
    raise local()
try:
    mpi.on_first_rank(action)
except Exception as error:
    print(f"{type(error).__name__} {error}\\n", end="", flush=True)  # at once: what two ranks print may be mixed
"""
    done = mpirun(2, "-c", raising)
    assert done.stdout.splitlines() == ["Mistake Local: only here"] * 2, done.stderr
