"""What is printed reaches whoever reads, whatever the stream and the names of files; where it cannot, work goes on."""

import errno
import io
import os
import sys
from pathlib import Path

import pytest

from oialr_hpo import export, search, status
from oialr_hpo.report import __main__ as report
from oialr_hpo.runs.directory import RunDirectory

BOWL = "tests.objectives:bowl"


def a_run(path: Path, trials: int = 2) -> RunDirectory:
    return search.run("vit_digits", changes=[f"trials={trials}"], out=path, objective=BOWL)


def test_names_that_a_stream_cannot_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(tmp_path / "größe").path
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii"))
    status.main([str(run)])
    export.main([str(run)])
    assert written.getvalue().count(rb"gr\xf6\xdfe") >= 2


def test_names_that_are_no_text(tmp_path: Path) -> None:
    run = a_run(tmp_path / os.fsdecode(b"r\xff")).path
    for module in (status, export, report):
        module.main([str(run)])
    assert [file.name for file in (run / "best").iterdir()] == [r"r\udcff-1.yaml"]
    assert r"r\udcff" in (run / "report.html").read_text(encoding="utf-8")


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_log_file_on_a_full_disk_ends_no_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = search.run
    monkeypatch.setattr(search, "run", lambda *arguments, **options: whole(*arguments, **options, objective=BOWL))
    monkeypatch.setattr(sys, "stdout", Full())
    monkeypatch.setattr(sys, "stderr", Full())
    search.main(["vit_digits", "--trials", "3", "--out", str(tmp_path / "run")])
    assert len(RunDirectory.open(tmp_path / "run").trials()) == 3


def test_a_mistake_that_cannot_be_said_has_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Full())
    with pytest.raises(SystemExit, match="2"):
        status.main(["nope"])


def test_streams_that_are_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(tmp_path / "run").path
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    status.main([str(run), "--watch"])
    with pytest.raises(SystemExit, match="2"):
        status.main([str(tmp_path / "nope")])
