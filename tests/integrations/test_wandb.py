"""Weights & Biases, offline: what a search leaves is read back as its own messages."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.loggers.test_built_in import errors
from tests.loggers.test_loggers import searched

pytest.importorskip("wandb", reason="wandb is not installed: tests/integrations/run.sh installs it")


def records(file: Path) -> list[Any]:
    """Of a run: LevelDB's log, whose blocks hold pieces of records, each after a checksum, its length and its kind."""
    from wandb.proto import wandb_internal_pb2

    content, at, found, record = file.read_bytes(), 7, [], b""
    while at + 7 <= len(content):
        if 2**15 - at % 2**15 < 7:  # the rest of a block
            at += 2**15 - at % 2**15
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        record += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or its last piece
            found.append(wandb_internal_pb2.Record.FromString(record))
            record = b""
    return found


def test_a_run_for_each_trial_in_a_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # nobody is logged in
    run = searched(tmp_path / "run", "wandb", trials=2)
    searched(run.path, "wandb", trials=3, resume=True)
    assert "warning" not in capfd.readouterr().err
    files = sorted(run.path.glob("wandb/offline-run-*/*.wandb"), key=lambda file: file.stem[-5:])
    assert len(files) == 3
    for trial, file in zip(run.trials(), files, strict=True):
        found = records(file)
        (about,) = {(each.run.run_group, each.run.display_name) for each in found if each.HasField("run")}
        assert about == ("run", f"trial-{trial.number:05d}")
        config = {item.key: json.loads(item.value_json) for r in found for item in r.run.config.update}
        assert {key: config[key] for key in trial.settings} == trial.settings
        logged = [{_key(item): item.value_json for item in r.history.item} for r in found if r.HasField("history")]
        assert [(int(row["epoch"]), float(row["error"])) for row in logged] == errors(run, trial.number)
        summary = {_key(item): json.loads(item.value_json) for r in found for item in r.summary.update}
        assert summary["score"] == pytest.approx(trial.score) and summary["state"] == "complete"


def _key(item: Any) -> str:
    return item.key or ".".join(item.nested_key)
