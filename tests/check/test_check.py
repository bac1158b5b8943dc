"""What `python -m oialr_hpo.check` finds, on one process and under a real `mpirun`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engines.test_propulate import mpirun, needs_mpi
from tests.training.test_rehearsal import own

ROOT = Path(__file__).parents[2]


def run_check(*options: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "oialr_hpo.check", *options],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_one_process_where_all_is_well(tmp_path: Path) -> None:
    done = run_check(
        "vit_digits", "--out", str(tmp_path / "runs" / "new"), OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES=""
    )
    assert done.returncode == 0, done.stdout
    assert "data: digits is ready" in done.stdout and "the search can run here" in done.stdout
    assert f"run directory {tmp_path}/runs/new: free" in done.stdout
    assert "precision: float32; in bfloat16 a dense step takes " in done.stdout
    assert not list(tmp_path.iterdir())


def test_everything_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    missing = str(tmp_path / "nowhere")
    done = run_check(
        *("autoformer_ettm2_96", "--out", "/proc/run", "--data-dir", missing),
        *("--set", "loggers=[tests.loggers.recorded:Notes]"),
        OMP_NUM_THREADS="64",
        SLURM_NTASKS="4",
        CUDA_VISIBLE_DEVICES="",
    )
    assert done.returncode == 1
    errors = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert len(errors) == 3
    assert errors[0].startswith("error: run directory /proc: ") and errors[0].endswith("that all nodes share")
    assert errors[1] == f"error: data directory {missing} does not exist; create it, or omit it to fetch ETTm2"
    assert errors[2].startswith("error: loggers: ") and errors[2].endswith("did you mean 'Notebook'?")
    assert "64 training threads on" in done.stdout
    assert "warning: Slurm gives 4 tasks, but this is one; use srun, mpirun or --jobs 4" in done.stdout
    assert "the search cannot run here" in done.stdout


@needs_mpi
def test_four_ranks_bound_to_one_cpu(tmp_path: Path) -> None:
    own("tests.mistaken:Right", tmp_path)  # small, and needs little but torch
    (out := tmp_path / "run").mkdir()
    os.sched_setaffinity(0, {cpu := min(before := os.sched_getaffinity(0))})
    try:
        done = mpirun(4, "-m", "oialr_hpo.check", str(tmp_path / "own.yaml"), "--out", str(out))
    finally:
        os.sched_setaffinity(0, before)
    assert done.returncode == 0, done.stderr
    assert "a message went round 4 ranks" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines() if line.strip()[:1].isdigit()]
    assert [(row[0], row[2], row[3]) for row in rows] == [(str(rank), str(rank), str(cpu)) for rank in range(4)]
    assert f"4 ranks on CPU {cpu}; " in done.stdout
    assert not list(out.iterdir())


@needs_mpi
@pytest.mark.parametrize("command", ["check", "search"])
def test_worlds_of_one_rank_are_refused(command: str, tmp_path: Path) -> None:
    """What srun with the wrong --mpi makes: so many processes, each alone in its world."""
    for rank, said in (("0", 1), ("1", 0)):
        done = subprocess.run(
            [sys.executable, "-m", f"oialr_hpo.{command}", "vit_digits", "--out", str(tmp_path / "run")],
            cwd=ROOT,
            env=os.environ | {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": rank, "SLURM_TASK_PID": str(os.getpid())},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode in (1, 2)
        assert done.stderr.count("the launcher started 4 processes, but to MPICH") == said
        assert not (tmp_path / "run").exists()
