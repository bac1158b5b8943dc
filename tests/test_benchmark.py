"""The measurements run through their command, at the smallest size."""

import os
import subprocess
import sys

import pytest


def benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "oialr_hpo.benchmark", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (
            "layers --cases 768x768 conv3x3 --ranks 8 --rounds 1 --threads 1",
            ["dense", "rebuild", "chain", "hybrid", "ours"],
        ),
        (
            "step --networks vit autoformer --batch 1 --ranks 8 --rounds 1 --threads 1",
            ["dense", "rebuild", "ours", "autoformer"],
        ),
        ("epoch vit_digits --steps 1 --ranks 8 --threads 1", ["dense", "full", "rank 8", "images/s"]),
        ("run --batch 1 --depth 1 --width 96 --steps 3 --threads 1", ["trainable %", "oialr / dense"]),
        (
            "utilization vit_digits --epochs 1 --images 100 --tolerances 1 --threads 1",
            ["same ranks", "of 1", "fewer"],
        ),
        ("moments --seeds 1 --processes 1 --set training.epochs=1", ["(L*L)' v (R*R)", "mean of v", "all afresh"]),
    ],
)
def test_prints_a_row_for_every_alternative(arguments, expected):
    ran = benchmark(*arguments.split())
    assert ran.returncode == 0, ran.stderr
    assert all(name in ran.stdout for name in expected), ran.stdout


def test_an_unknown_name_lists_the_known_ones():
    ran = benchmark("nonsense")
    assert ran.returncode == 2
    assert "moments" in ran.stderr
