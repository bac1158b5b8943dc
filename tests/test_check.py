"""What `python -m oialr_hpo.check` finds, on one process and under a real `mpirun`."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from oialr_hpo.check import Findings, Place, device_map
from tests.engines.test_propulate import mpirun, needs_mpi

ROOT = Path(__file__).parents[1]


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
    done = run_check("vit_digits", "--out", str(tmp_path / "runs" / "new"), OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stdout
    assert "data: digits is ready" in done.stdout and "the search can run here" in done.stdout
    assert f"run directory {tmp_path}/runs/new: free" in done.stdout
    assert not list(tmp_path.iterdir())


def test_everything_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    missing = str(tmp_path / "nowhere")
    done = run_check(
        *("autoformer_ettm2_96", "--out", "/proc/run", "--data-dir", missing),
        OMP_NUM_THREADS="64",
        SLURM_NTASKS="4",
        CUDA_VISIBLE_DEVICES="",
    )
    assert done.returncode == 1
    errors = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2
    assert errors[0].startswith("error: run directory /proc: ") and errors[0].endswith("that all nodes share")
    assert errors[1] == f"error: data directory {missing} does not exist; create it, or omit it to fetch ETTm2"
    assert "64 training threads on" in done.stdout
    assert "warning: Slurm gives 4 tasks, but this is one; use srun, mpirun or --jobs 4" in done.stdout
    assert "the search cannot run here" in done.stdout


@needs_mpi
def test_four_ranks_bound_to_one_cpu(tmp_path: Path) -> None:
    os.sched_setaffinity(0, {cpu := min(before := os.sched_getaffinity(0))})
    try:
        done = mpirun(4, "-m", "oialr_hpo.check", "vit_digits", "--out", str(tmp_path))
    finally:
        os.sched_setaffinity(0, before)
    assert done.returncode == 0, done.stderr
    assert "a message went round 4 ranks" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines() if line.strip()[:1].isdigit()]
    assert [(row[0], row[2], row[3]) for row in rows] == [(str(rank), str(rank), str(cpu)) for rank in range(4)]
    assert f"4 ranks on CPU {cpu}; " in done.stdout
    assert not list(tmp_path.iterdir())


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


def place(rank: int, host: str, visible: str | None = None) -> Place:
    return Place(rank, host, local_rank=rank, cpus=frozenset({rank}), threads=1, visible=visible, versions={})


def gpu(index: int, of: int = 2, **more: Any) -> dict[str, Any]:
    """What torch would say of a machine with GPUs."""
    name = {"device": f"cuda:{index}", "name": "H100", "identity": f"GPU-{index}", "memory": 80 * 2**30}
    return {"built": "CUDA 12.8", "gpus": of} | name | more


def test_ranks_that_share_a_gpu_are_named() -> None:
    findings = Findings()
    ranks = [place(rank, "n1", "0,1") for rank in range(3)]
    rows = device_map(ranks, {0: gpu(0), 1: gpu(1), 2: gpu(0)}, findings).splitlines()
    assert rows[2].endswith("cuda:0, shared with rank 2 (H100, 80 GiB)")
    assert rows[3].endswith("cuda:1 (H100, 80 GiB)")
    assert [line.split(":")[1].strip() for line in findings.warnings] == ["3 ranks share 2 GPUs"]
    assert not findings.errors


def test_the_same_number_of_gpus_on_two_hosts_is_not_shared() -> None:
    """--gpus-per-task=1: every rank sees one GPU, as cuda:0."""
    findings = Findings()
    ranks = [place(0, "n1", "0"), place(1, "n1", "1"), place(2, "n2", "0")]
    probes = {0: gpu(0, of=1), 1: gpu(0, of=1, identity="GPU-1"), 2: gpu(0, of=1)}
    assert "shared" not in device_map(ranks, probes, findings)
    assert not findings.warnings


def test_gpus_that_idle_fail_or_stay_unseen_are_named() -> None:
    findings = Findings()
    unseen = {"built": "CPUs only", "gpus": 0, "device": "cpu", "name": "cpu", "identity": "cpu"}
    probes = {0: gpu(0, of=4), 1: unseen, 2: gpu(0, error="CUDA error: out of memory")}
    device_map([place(0, "n1"), place(1, "n2", "0,1"), place(2, "n3")], probes, findings)
    assert findings.warnings == [
        "n1: 3 of 4 GPUs idle; start a rank for each",
        "n2: GPUs 0,1 are given, but torch (built for CPUs only) sees none: trials train on the CPU",
        "n3: 1 of 2 GPUs idle; start a rank for each",
    ]
    assert findings.errors == ["rank 2 on n3: torch: CUDA error: out of memory"]
