"""Searches under a real `mpirun -n 4`."""

import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest

from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.trial import Role, State

MPIRUN = Path(sys.executable).with_name("mpirun")
needs_mpi = pytest.mark.skipif(not MPIRUN.exists(), reason="no MPI runtime beside this Python: install the extra 'mpi'")
pytestmark = needs_mpi

SCRIPT = """
import sys
from pathlib import Path
from oialr_hpo import search
out, objective, resume, *changes = sys.argv[1:]
changes = ["score.trainable_weight=0.0", "finalists.count=0", "early_stopping.enabled=false", *changes]
search.run("vit_digits", changes=changes, out=Path(out), objective=objective, resume=resume == "resume")
"""


def mpirun(ranks: int, *command: str) -> "subprocess.CompletedProcess[str]":
    root = Path(__file__).parents[2]
    return subprocess.run(
        [str(MPIRUN), "-n", str(ranks), sys.executable, *command], cwd=root, capture_output=True, text=True, timeout=300
    )


def test_every_way_to_fail_is_recorded_and_four_ranks_share_one_budget(tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = mpirun(4, "-c", SCRIPT, str(out), "tests.objectives:hazards", "", "trials=36")
    assert done.returncode == 0, done.stderr
    trials = RunDirectory.open(out).trials()
    assert [trial.number for trial in trials] == list(range(36))
    assert [trial.number for trial in trials if trial.state is State.FAILED] == list(range(0, 36, 3))
    assert len(list((out / "trials").glob("rank-*.jsonl"))) == 4
    assert len({trial.worker for trial in trials}) == 4
    assert "[36/36]" in done.stdout

    done = mpirun(3, "-c", SCRIPT, str(out), "tests.objectives:hazards", "resume", "trials=42")
    assert done.returncode == 0, done.stderr
    again = RunDirectory.open(out).trials()
    assert again[:36] == trials and [trial.number for trial in again] == list(range(42))
    assert {trial.role for trial in again[36:]} == {Role.PROPOSAL}


def test_an_error_of_the_search_itself_stops_all_ranks_with_a_message(tmp_path: Path) -> None:
    breaking = SCRIPT.replace(
        "out, obj",
        "from oialr_hpo.engines import islands, mpi\nif mpi.world()[0] == 2: del islands.Island.propose\nout, obj",
    )
    done = mpirun(4, "-c", breaking, str(tmp_path / "run"), "tests.objectives:bowl", "", "trials=500")
    assert done.returncode != 0
    assert "the search itself failed, all ranks stop" in done.stderr and "AttributeError" in done.stderr


def test_mistakes_are_one_line_from_one_rank(tmp_path: Path) -> None:
    for arguments, message in (
        (["vit_digit"], "did you mean 'vit_digits'?"),
        (["vit_digits", "--engine", "optuna"], "use --jobs 4"),
    ):
        done = mpirun(4, "-m", "oialr_hpo.search", *arguments, "--out", str(tmp_path / "run"))
        assert done.returncode == 2
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and message in errors[0]
    assert not (tmp_path / "run").exists()


def test_islands_exchange_their_best_and_share_one_budget(tmp_path: Path) -> None:
    changes = ["trials=100", "islands.count=2", "islands.migration=1.0"]
    done = mpirun(4, "-c", SCRIPT, str(tmp_path / "run"), "tests.objectives:bowl", "", *changes)
    assert done.returncode == 0, done.stderr
    trials = RunDirectory.open(tmp_path / "run").trials()
    assert [trial.state for trial in trials] == 100 * [State.COMPLETE]
    early, late = (median(trial.scores[0] for trial in part) for part in (trials[3:23], trials[60:]))
    assert late < early  # without islands, over 16 seeds, at most 0.09 of it
