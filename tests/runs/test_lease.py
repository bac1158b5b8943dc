"""Whether a search lives: asked of its lock, by commands in other processes."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from oialr_hpo import status
from oialr_hpo.experiment import load
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.files import RunDirectoryError
from oialr_hpo.runs.lease import SILENCE, Lease, Taken
from oialr_hpo.runs.summary import not_running
from oialr_hpo.runs.trial import State
from tests.engines.test_interruption import Start, start, wait_for_epoch  # noqa: F401 (start is a fixture)
from tests.engines.test_search import run

SLOW = "from tests.engines.test_search import *; import sys; run(Path(sys.argv[1]), objective='tests.objectives:slow')"


def test_a_killed_search_is_not_running_and_watching_it_ends(
    tmp_path: Path,
    start: Start,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RELEASE", str(tmp_path / "release"))
    searching = start(sys.executable, "-c", SLOW, str(tmp_path))
    wait_for_epoch(tmp_path)
    alive = RunDirectory.open(tmp_path)
    assert alive.alive and status.status(alive)["running"] and "not running" not in status.summary(alive)
    searching.kill()
    searching.wait()
    dead = RunDirectory.open(tmp_path)
    assert not dead.alive and not status.status(dead)["running"]
    watching = [sys.executable, "-m", "oialr_hpo.status", str(tmp_path), "--watch"]
    printed = subprocess.run(watching, capture_output=True, text=True, timeout=100, check=True).stdout
    (word,) = [line for line in printed.splitlines() if line.startswith("not running")]
    assert word.startswith("not running (ended without a word at 2") and word.endswith(" --resume")
    assert "running of" not in printed and status.status(dead)["trials"]["running"] == 0
    (tmp_path / "release").touch()
    after = run(tmp_path, "trials=3", objective="tests.objectives:slow", resume=True)
    assert [trial.state for trial in after.trials()] == 3 * [State.COMPLETE]
    assert after.abandoned is None and "not running" not in status.summary(after)


def test_one_that_ended_in_order_but_is_not_done_says_how_to_go_on(tmp_path: Path) -> None:
    done = run(tmp_path, "trials=3", "time_limit=1s", "at_time_limit=interrupt", objective="tests.objectives:slow")
    (word,) = [line for line in status.summary(done).splitlines() if "not running" in line]
    assert word.startswith("not running, resume with: ") and word.endswith(" --resume")


def test_trainings_that_ended_are_done(tmp_path: Path) -> None:
    """`train --out` makes a run directory too, without a search."""
    from oialr_hpo.runs.trial import Role, Trial

    experiment = load("vit_digits").fixed()
    held = RunDirectory.create(tmp_path, experiment, {"command": "python -m oialr_hpo.train x.yaml"}, resume=False)
    trial = Trial(number=0, role=Role.START, settings={}, seed=0, worker=0)
    log = held.log(0)
    log.start(trial)
    assert "not running" not in status.summary(held)
    held.release()
    word = "not running, resume with: python -m oialr_hpo.train x.yaml --resume"
    assert word in status.summary(held).splitlines()
    trial.state = State.FAILED
    log.end(trial)
    assert "not running" not in status.summary(held)
    (tmp_path / "environment.yaml").unlink()
    assert not_running(held, []) is None


def test_looking_at_the_lock_keeps_no_search_out(tmp_path: Path) -> None:
    mine, other = Lease(tmp_path), Lease(tmp_path)
    looking = "import sys; from pathlib import Path; from oialr_hpo.runs.lease import Lease"
    looking += "\nwhile True: Lease(Path(sys.argv[1])).held"
    lookers = [subprocess.Popen([sys.executable, "-c", looking, str(tmp_path)]) for _ in range(2)]
    try:
        for _ in range(5):
            mine.claim()
            assert other.held and not other.abandoned
            mine.release()
            assert not other.abandoned
    finally:
        for looker in lookers:
            looker.kill()
            looker.wait()
    mine.claim()
    with pytest.raises(Taken):
        other.claim()
    mine.release()
    other.claim()
    other.release()


def test_a_heartbeat_tells_where_locks_do_not_reach(tmp_path: Path) -> None:
    """Another machine's name in a file that nobody has locked."""
    lease = Lease(tmp_path)
    lease.path.write_text("another-machine\n")
    assert lease.held and not lease.abandoned
    os.utime(lease.path, (time.time() - 2 * SILENCE,) * 2)
    assert not lease.held and lease.abandoned
    lease.path.write_text(f"{socket.gethostname()}\n")
    assert not lease.held and lease.abandoned


def test_a_run_directory_that_is_in_use_is_refused(tmp_path: Path) -> None:
    held = run(tmp_path, "trials=2")
    held._lease.claim()
    with pytest.raises(RunDirectoryError, match="in use by a running search"):
        run(tmp_path, "trials=3", resume=True)
    held.release()


def test_a_hangup_leaves_a_search_that_nohup_started_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from oialr_hpo.engines.signals import StopRequest

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGUSR1)
            assert stop.received == "SIGUSR1" and stop.deadline is None
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.received == "SIGHUP" and stop.deadline is not None and 0 < stop.deadline.left <= 20
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_terminal_that_is_closed_costs_no_epoch(tmp_path: Path) -> None:
    """SIGHUP saves like SIGTERM, though nothing can be printed any more."""
    import pty

    pid, terminal = pty.fork()
    if pid == 0:
        code = SLOW.replace("slow'", "slow', jobs=1")
        os.execv(sys.executable, [sys.executable, "-c", code, str(tmp_path)])
    wait_for_epoch(tmp_path)
    os.close(terminal)  # the kernel sends SIGHUP
    for _ in range(600):
        if os.waitpid(pid, os.WNOHANG)[0]:
            break
        time.sleep(0.1)
    else:
        os.kill(pid, signal.SIGKILL)
        raise AssertionError("the search did not end")
    ended = RunDirectory.open(tmp_path)
    assert [trial.state for trial in ended.trials()] == [State.INTERRUPTED] and not ended.alive
    assert ended.abandoned is None
