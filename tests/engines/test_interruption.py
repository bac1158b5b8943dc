"""Signals, time limits, timeouts and kills: nothing that finished is lost, and what ran goes on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from oialr_hpo import search
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.files import RunDirectoryError
from oialr_hpo.runs.trial import State
from tests.blobs import EXPERIMENT
from tests.engines.test_nothing_is_lost import running
from tests.engines.test_propulate import MPIRUN, SCRIPT, needs_mpi
from tests.engines.test_search import run

ROOT = Path(__file__).parents[2]
PATIENT = "tests.objectives:patient"


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a command in the checkout; what still runs after the test is killed."""
    started: list[subprocess.Popen[str]] = []

    def begin(*command: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(command, cwd=ROOT, text=True, stderr=subprocess.PIPE, start_new_session=True)
        started.append(process)
        return process

    yield begin
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def command(out: Path, *options: str, objective: str | None = PATIENT) -> list[str]:
    """A search with an objective, or one that trains a network for forty seconds."""
    given = ["vit_digits", "--set", f"objective={objective}", "--set", "early_stopping.enabled=false"]
    if objective is None:
        (file := out.with_name("slow.yaml")).write_text(EXPERIMENT.replace("Blobs", "Slow"))
        given = [str(file), "--set", "training.epochs=400"]
    return [sys.executable, "-m", "oialr_hpo.search", *given, "--out", str(out), *options]


def wait_for_epoch(out: Path, workers: int = 1) -> None:
    """Until so many workers have written an epoch."""
    for _ in range(1200):
        files = (out / "trials").glob("rank-*.jsonl")
        if sum('"event": "epoch"' in file.read_text() for file in files) >= workers:
            return
        time.sleep(0.1)
    raise AssertionError("no epoch in two minutes")


@pytest.mark.parametrize(
    ("number", "objective"), [(signal.SIGTERM, None), (signal.SIGHUP, PATIENT), (signal.SIGINT, PATIENT)]
)
def test_a_signal_interrupts_and_resume_goes_on_from_the_checkpoint(
    tmp_path: Path, start: Start, number: signal.Signals, objective: str | None
) -> None:
    out = tmp_path / "run"
    searching = start(*command(out, *(options := ["--trials", "2", "--jobs", "2"]), objective=objective))
    wait_for_epoch(out, workers=2)
    searching.send_signal(number)
    _, errors = searching.communicate(timeout=120)
    assert searching.returncode == search.INTERRUPTED, errors
    assert "interrupted; the same command with --resume goes on" in errors
    interrupted = RunDirectory.open(out).trials()
    assert {trial.state for trial in interrupted} == {State.INTERRUPTED}
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["trial-00000.pt", "trial-00001.pt"]
    reached = {trial.number: len(trial.epochs) for trial in interrupted}
    searching = start(*command(out, *options, "--resume", objective=objective))
    time.sleep(1)
    wait_for_epoch(out)
    while all(len(trial.epochs) == reached[trial.number] for trial in RunDirectory.open(out).trials()):
        time.sleep(0.1)
    searching.send_signal(signal.SIGTERM)
    searching.communicate(timeout=120)
    for trial in RunDirectory.open(out).trials():
        assert [record["epoch"] for record in trial.epochs] == list(range(1, len(trial.epochs) + 1))
        assert len(trial.epochs) >= reached[trial.number]


@needs_mpi
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_to_one_rank_interrupts_all_of_them(tmp_path: Path, start: Start, number: signal.Signals) -> None:
    out = tmp_path / "run"
    searching = subprocess.Popen(
        [str(MPIRUN), "-n", "3", sys.executable, "-c", SCRIPT, str(out), PATIENT, "", "trials=20"]
    )
    wait_for_epoch(out, workers=3)
    rank = running(out)[-1]
    os.kill(rank, number)
    searching.communicate(timeout=120)
    assert [trial.state for trial in RunDirectory.open(out).trials()] == [State.INTERRUPTED] * 3
    assert len(list((out / "checkpoints").iterdir())) == 3


def test_a_signal_before_the_first_trial_interrupts_too(tmp_path: Path) -> None:
    out = tmp_path / "run"
    searching = subprocess.Popen(command(out, "--trials", "2"), cwd=ROOT)
    while not (out / "trials").exists():
        time.sleep(0.01)
    searching.send_signal(signal.SIGUSR1)
    assert searching.wait(timeout=120) == search.INTERRUPTED


def test_the_time_limit_may_interrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELEASE", str(tmp_path / "release"))
    limits = ["trials=3", "time_limit=4s", "at_time_limit=interrupt"]
    trials = run(tmp_path / "run", *limits, objective="tests.objectives:slow").trials()
    assert all(trial.state is State.INTERRUPTED and len(trial.epochs) < 60 for trial in trials)
    more = ["trials=3", "at_time_limit=interrupt"]
    (tmp_path / "release").touch()
    again = run(tmp_path / "run", *more, objective="tests.objectives:slow", resume=True).trials()
    assert [trial.state for trial in again] == [State.COMPLETE] * 3
    assert [trial.settings for trial in again[: len(trials)]] == [trial.settings for trial in trials]


def test_a_trial_that_hangs_is_ended_at_its_timeout(tmp_path: Path) -> None:
    trials = run(tmp_path, "trials=4", "trial_timeout=5s", objective="tests.objectives:hangs").trials()
    assert [trial.state for trial in trials] == [State.FAILED, State.COMPLETE] * 2
    assert trials[0].reason == "ran longer than trial_timeout, 5s"


def test_out_of_memory_is_a_state_of_its_own(tmp_path: Path) -> None:
    trials = run(tmp_path, "trials=3", objective="tests.objectives:greedy").trials()
    assert {trial.state for trial in trials} == {State.OUT_OF_MEMORY}


def test_a_process_that_leaks_is_replaced(tmp_path: Path) -> None:
    trials = run(tmp_path, "trials=5", objective="tests.objectives:leaks", jobs=1).trials()
    assert [trial.metrics["process"] == trials[0].metrics["process"] for trial in trials] == [True] * 3 + [False] * 2


def test_a_second_search_is_kept_out(tmp_path: Path, start: Start) -> None:
    out = tmp_path / "run"
    slow = (
        "from tests.engines.test_search import *; import sys; run(Path(sys.argv[1]), objective='tests.objectives:slow')"
    )
    start(sys.executable, "-c", slow, str(out))
    while not (out / "trials").exists():
        time.sleep(0.05)
    with pytest.raises(RunDirectoryError, match="in use by a running search"):
        run(out, objective="tests.objectives:slow", resume=True)


def test_a_full_disk_is_a_clear_message_and_resume_goes_on(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: the write fails in the same place."""
    script = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, resource.RLIM_INFINITY)); "
        "from oialr_hpo import search; search.main(['vit_digits', '--trials', '200', '--out', OUT])"
    )
    out = tmp_path / "run"
    objective = "search.run.__kwdefaults__['objective'] = 'tests.objectives:bowl'; search.main"
    script = script.replace("search.main", objective).replace("OUT", repr(str(out)))
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "rank-0000.jsonl cannot be written: File too large; " in error
    before = [trial for trial in RunDirectory.open(out).trials() if trial.finished]
    after = run(
        out, f"trials={len(before) + 5}", "score.trainable_weight=0.1", "early_stopping.enabled=true", resume=True
    )
    assert [trial for trial in after.trials() if trial.number in {t.number for t in before}] == before
    assert all(trial.finished for trial in after.trials())


def test_an_unwritable_directory_is_a_clear_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirectoryError, match="cannot be written: Not a directory; choose another --out"):
        run(tmp_path / "file" / "run")


def test_children_end_with_their_parent(tmp_path: Path, start: Start) -> None:
    out = tmp_path / "run"
    slow = (
        "from tests.engines.test_search import *; import sys; run(Path(sys.argv[1]), objective='tests.objectives:pids')"
    )
    parent = start(sys.executable, "-c", slow, str(out))
    wait_for_epoch(out)
    pids = {int(trial.epochs[0]["process"]) for trial in RunDirectory.open(out).trials() if trial.epochs}
    parent.kill()
    parent.wait()
    for _ in range(600):
        if not any(_alive(pid) for pid in pids):
            return
        time.sleep(0.1)
    raise AssertionError("a training process outlived its search")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0]
