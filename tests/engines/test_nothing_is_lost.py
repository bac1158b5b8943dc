"""Injected failures and kills under a real mpirun: every trial is accounted for, and what finished stays."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import cycle, islice
from pathlib import Path

import pytest

from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.trial import State, Trial
from tests.engines.test_propulate import MPIRUN, SCRIPT, mpirun, needs_mpi

ROOT = Path(__file__).parents[2]


@needs_mpi
def test_a_thousand_trials_of_which_a_third_end_badly(tmp_path: Path) -> None:
    out = tmp_path / "run"
    changes = ["trials=1000", "trial_timeout=6s", "sampler.name=random"]
    done = mpirun(4, "-c", SCRIPT, str(out), "tests.objectives:injected", "", *changes)
    assert done.returncode == 0, done.stderr
    trials = RunDirectory.open(out).trials()
    assert [trial.number for trial in trials] == list(range(1000))
    assert [trial.number for trial in trials if trial.state is State.COMPLETE] == [n for n in range(1000) if n % 3]
    kinds = [
        *(3 * ["ValueError: injected"]),
        *("SystemExit: 3", "the training process ended with exit status 7"),
        *("the training process was killed by SIGSEGV", "ran longer than trial_timeout, 6s"),
        *(3 * ["the score is nan at epoch 2"] + 2 * ["the score is inf at epoch 2"]),
    ]
    lost = kinds[4:7]  # the process, with eight ninths of them spared
    kinds += 8 * ["ValueError: injected" if kind in lost else kind for kind in kinds]
    reasons = Counter(trial.reason for trial in trials if trial.state is State.FAILED)
    assert reasons == Counter(islice(cycle(kinds), 334))


LAUNCHES = [(2, "evolution"), (1, "tpe"), (3, "pso"), (1, "evolution"), (4, "cmaes"), (1, "random"), (2, "nsga2")]


@needs_mpi
def test_killed_at_twenty_moments_and_resumed_with_other_ranks_engines_and_samplers(tmp_path: Path) -> None:
    out, rng = tmp_path / "run", random.Random(0)
    finished: dict[int, Trial] = {}
    for ranks, sampler in islice(cycle(LAUNCHES), 20):
        search = launch(out, ranks, sampler, trials=100_000)
        wait_for_events(out, search, 1 + rng.randrange(12 * ranks))
        kill(out, search, everything=rng.random() < 0.5)
        trials = {trial.number: trial for trial in RunDirectory.open(out).trials()}
        assert {number: trials[number] for number in finished} == finished
        finished = {number: trial for number, trial in trials.items() if trial.finished}

    budget = len(trials) + 10
    search = launch(out, 3, "evolution", trials=budget)
    assert search.wait(timeout=120) == 0
    last = RunDirectory.open(out).trials()
    assert {trial.number: trial for trial in last if trial.number in finished} == finished
    assert [trial.state for trial in last] == budget * [State.COMPLETE]
    assert [trial.number for trial in last] == list(range(budget))
    assert all(trial.score == pytest.approx(trial.seed + float(trial.settings["oialr.cutoff"])) for trial in last[1:])
    ends = Counter(event["number"] for event in events(out) if event["event"] == "end")
    assert set(ends.values()) == {1}


def launch(out: Path, ranks: int, sampler: str, trials: int) -> "subprocess.Popen[str]":
    launcher = [str(MPIRUN), "-n", str(ranks)] if ranks > 1 else []
    resume = "resume" if (out / "lock").exists() else ""
    changes = [f"trials={trials}", f"sampler.name={sampler}"]
    command = [*launcher, sys.executable, "-c", SCRIPT, str(out), "tests.objectives:quick", resume, *changes]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)


def events(out: Path) -> list[dict[str, object]]:
    """All whole lines of the trial files."""
    found = []
    for file in (out / "trials").glob("rank-*.jsonl"):
        for line in file.read_text(errors="replace").splitlines():
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                continue
    return found


def lines(out: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in (out / "trials").glob("rank-*.jsonl"))


def wait_for_events(out: Path, search: "subprocess.Popen[str]", more: int) -> None:
    """Until the search has written so many events more."""
    before = lines(out)
    while lines(out) < before + more:
        assert search.poll() is None, "the search ended by itself"
        time.sleep(0.01)


def kill(out: Path, search: "subprocess.Popen[str]", everything: bool) -> None:
    """Kill all processes of a search, or one of its ranks: its launcher then ends the others."""
    ranks = [pid for pid in running(out) if pid != search.pid]
    for pid in [search.pid, *ranks] if everything or not ranks else ranks[-1:]:
        os.kill(pid, signal.SIGKILL)
    search.wait(timeout=120)
    while any(pid in running(out) for pid in ranks):
        time.sleep(0.01)


def running(out: Path) -> list[int]:
    """Processes that were given this run directory."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (directory / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(out).encode() in arguments and sys.executable.encode() in arguments[:1]:
            found.append(int(directory.name))
    return found
