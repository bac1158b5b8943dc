"""What a search and its watchers print."""

import io
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from oialr_hpo import search, train
from oialr_hpo.engines import progress
from oialr_hpo.mistake import Mistake
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.trial import State
from oialr_hpo.status import main as status_command
from oialr_hpo.status import status


def test_a_search_prints_a_line_per_trial_with_the_best_and_the_time_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search.run("vit_digits", changes=["trials=6"], out=tmp_path, objective="tests.objectives:bowl")
    begun, lines = (lines := capsys.readouterr().out.splitlines())[:5], lines[5:]
    assert [line.split()[0] for line in begun] == ["search", "engine", "workers", "run", "watch"]
    assert "6 trials" in begun[0] and "optuna" in begun[1] and begun[3].endswith(str(tmp_path))
    assert begun[4].endswith(f"oialr_hpo.status {tmp_path} --watch")
    assert [line.split("]")[0] for line in lines] == [f"[{n}/6" for n in range(1, 7)]
    assert all(" | best 0." in line and "gone" in line for line in lines[1:])
    assert all("left" in line for line in lines[:-1]) and "left" not in lines[-1]
    assert not any("\r" in line or "\x1b" in line for line in lines)


def test_a_search_says_what_is_running_where_no_trial_ends_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "SILENCE_SECONDS", 0.0)
    changes = ["trials=3", "time_limit=2s", "at_time_limit=interrupt"]
    search.run("vit_digits", changes=changes, out=tmp_path, objective="tests.objectives:slow", jobs=2)
    said = [line for line in capsys.readouterr().out.splitlines() if "running: " in line]
    assert any("#0 at " in line and "#1 at " in line for line in said) and all(" gone" in line for line in said)


def test_a_quiet_search_prints_its_result_and_a_verbose_one_its_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(search.run.__kwdefaults__, "objective", "tests.objectives:bowl")
    to_the_end = ["--set", "early_stopping.enabled=false"]
    search.main(["vit_digits", "--trials", "2", "--out", str(tmp_path / "quiet"), "--quiet"])
    quiet = capsys.readouterr()
    assert quiet.out.split("\n", 2)[1].startswith(f"{tmp_path / 'quiet'}: 2 complete of 2 trials")
    assert "[1/2]" not in quiet.out and "watch " not in quiet.out and "next:" not in quiet.out and not quiet.err
    search.main(["vit_digits", "--trials", "2", "--out", str(tmp_path / "verbose"), "-v", *to_the_end])
    said = capsys.readouterr().out
    assert all(f"#{n} begins" in said and f"#{n} at 25%, score 0." in said for n in range(2)) and "[2/2]" in said
    search.run("vit_digits", changes=["trials=1"], out=tmp_path / "later")
    assert "[1/1]" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        search.main(["vit_digits", "-q", "-v"])
    assert "not allowed with argument" in capsys.readouterr().err


def test_a_quiet_training_prints_its_result_and_a_verbose_one_every_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("objective: tests.objectives:eventful\nscore: {minimize: error}\n")
    said = {}
    for option in ("--quiet", "--seeds", "--verbose"):
        train.main(["mine.yaml", "--seeds", "3", *([option] if option != "--seeds" else [])])
        said[option] = capsys.readouterr().out
    assert said["--quiet"].startswith("\nvalidation split, seeds 3 ") and "epoch 1" not in said["--quiet"]
    shown, all_numbers = (said[option].splitlines()[0] for option in ("--seeds", "--verbose"))
    assert "epoch 1" in shown and "step 5" not in shown
    assert "epoch 1" in all_numbers and "step 5" in all_numbers
    assert len({text.split("\n\n")[-1].strip().splitlines()[0] for text in said.values()}) == 1


@pytest.mark.parametrize("terminal", [True, False])
def test_watching_a_search_until_it_ends(tmp_path: Path, terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    out, release = tmp_path / "run", tmp_path / "release"
    monkeypatch.setenv("RELEASE", str(release))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    code = (
        "from oialr_hpo import search; from pathlib import Path; import sys;"
        "search.run('vit_digits', changes=['trials=4', 'early_stopping.enabled=false'], out=Path(sys.argv[1]), jobs=2,"
        " objective='tests.objectives:held')"
    )
    searching = subprocess.Popen([sys.executable, "-c", code, str(out)], stdout=subprocess.DEVNULL)
    while not list(out.glob("trials/*")):
        assert searching.poll() is None
        time.sleep(0.05)
    for trial in status(RunDirectory.open(out))["running_trials"]:
        assert trial["worker"] in (0, 1) and 0 <= trial["epoch"] <= trial["epochs"] and "error" in trial
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


def test_a_run_is_a_data_frame_and_a_file_of_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pandas = pytest.importorskip("pandas")
    run = search.run("vit_digits", changes=["trials=3"], out=tmp_path / "run", objective="tests.objectives:bowl")
    trials, frame, curves = run.trials(), run.to_dataframe(), run.curves()
    assert [*frame["number"]] == [0, 1, 2] and [*frame["score"]] == [trial.score for trial in trials]
    assert [*frame["oialr.cutoff"]][1:] == [trial.settings["oialr.cutoff"] for trial in trials[1:]]
    assert [*curves["trial"]] == [trial.number for trial in trials for _ in trial.epochs]
    assert [*curves["error"]] == [record["error"] for trial in trials for record in trial.epochs]
    capsys.readouterr()
    status_command([str(run.path), "--csv", "--curves"])
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(curves)
    pytest.importorskip("pyarrow")
    status_command([str(run.path), "--parquet", str(tmp_path / "x.parquet")])
    assert pandas.read_parquet(tmp_path / "x.parquet").equals(frame)
    with monkeypatch.context() as without, pytest.raises(Mistake, match=r"pip install .oialr_hpo\[analysis\]"):
        without.setitem(sys.modules, "pandas", None)
        run.curves()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_an_interrupted_search_is_watched_no_longer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
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
    for wish, drawn in (("", True), ("1", False)):
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("NO_COLOR", wish)
        watch(finished, terminal := Terminal())
        assert ("\x1b" in terminal.getvalue()) is drawn and "of 9 trials" in terminal.getvalue()
