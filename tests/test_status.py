"""What a search and its watchers print."""

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from oialr_hpo import search
from oialr_hpo.runs.trial import State


def test_a_search_prints_a_line_per_trial_with_the_best_and_the_time_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search.run("vit_digits", changes=["trials=6"], out=tmp_path, objective="tests.objectives:bowl")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("]")[0] for line in lines] == [f"[{n}/6" for n in range(1, 7)]
    assert all(" | best 0." in line and "gone" in line for line in lines[1:])
    assert all("left" in line for line in lines[:-1]) and "left" not in lines[-1]
    assert not any("\r" in line or "\x1b" in line for line in lines)


@pytest.mark.parametrize("terminal", [True, False])
def test_watching_a_search_until_it_ends(tmp_path: Path, terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    out, release = tmp_path / "run", tmp_path / "release"
    monkeypatch.setenv("RELEASE", str(release))
    code = (
        "from oialr_hpo import search; from pathlib import Path; import sys;"
        "search.run('vit_digits', changes=['trials=4', 'early_stopping.enabled=false'], out=Path(sys.argv[1]), jobs=2,"
        " objective='tests.objectives:held')"
    )
    searching = subprocess.Popen([sys.executable, "-c", code, str(out)], stdout=subprocess.DEVNULL)
    while not list(out.glob("trials/*")):
        assert searching.poll() is None
        time.sleep(0.05)
    command = [sys.executable, "-m", "oialr_hpo.status", str(out), "--watch"]
    if terminal:
        ours, theirs = pty.openpty()
        watching = subprocess.Popen(command, stdout=theirs)
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65536):
                shown += part
                if shown.count(b"\x1b[2J") > 2 and b"2 running" in shown:
                    release.touch()
        except OSError:  # the other end is closed
            pass
        assert watching.wait() == 0
        printed = shown.decode()
        assert printed.count("\x1b[2J") > 3 and any("running" in line.split()[:1] for line in printed.splitlines())
    else:
        release.touch()
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "\x1b" not in printed
        assert [line[:5] for line in printed.splitlines()[:4]] == [f"[{n}/4]" for n in range(1, 5)]
    assert searching.wait() == 0
    assert f"{out}: 4 complete of 4 trials" in printed


def test_an_interrupted_search_is_watched_no_longer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from oialr_hpo.status import watch

    finished = search.run(
        "vit_digits",
        changes=["trials=9", "time_limit=1s", "at_time_limit=interrupt"],
        out=tmp_path,
        objective="tests.objectives:slow",
    )
    assert any(trial.state is State.INTERRUPTED for trial in finished.trials()) or not finished.trials()
    watch(finished, sys.stdout)
    assert "of 9 trials" in capsys.readouterr().out
