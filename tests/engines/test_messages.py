"""Whatever a trial yields, raises, prints or does to its process costs that trial alone."""

from pathlib import Path

from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.trial import State
from oialr_hpo.status import status, summary
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
