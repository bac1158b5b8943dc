"""Ranks that work in different directories: a relative path is the first one's."""

from pathlib import Path

from oialr_hpo.runs.directory import RunDirectory
from tests.engines.test_propulate import mpirun, needs_mpi

pytestmark = needs_mpi

SCRIPT = """
import os, sys
from pathlib import Path
from mpi4py import MPI
here = Path(sys.argv[1], str(MPI.COMM_WORLD.rank))
here.mkdir()
os.chdir(here)
from oialr_hpo import search
search.run(
    "vit_digits", changes=["trials=9"], out=Path("run"), data_dir=Path("data"), objective="tests.objectives:bowl"
)
"""


def test_no_trial_is_lost(tmp_path: Path) -> None:
    done = mpirun(3, "-c", SCRIPT, str(tmp_path))
    assert done.returncode == 0, done.stderr
    trials = RunDirectory.open(tmp_path / "0" / "run").trials()
    assert len(trials) == 9 and all(trial.finished for trial in trials)
    assert len(list((tmp_path / "0" / "run" / "trials").iterdir())) == 3
    assert not list((tmp_path / "1").iterdir()) and not list((tmp_path / "2").iterdir())
