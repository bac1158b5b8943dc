"""What is said where silence would mislead, and paths that cannot be: before any work, in a line."""

import json
import os
import shlex
import stat
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from oialr_hpo import export, search, status, train
from oialr_hpo.experiment import ExperimentError, load
from oialr_hpo.report import __main__ as report
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.utilization import images, weights
from tests.test_commands import line_of

BOWL = "tests.objectives:bowl"
SMALL = ["training.epochs=2", "model.arguments.depth=1", "data.train_images=160", "oialr.delay=2", "oialr.frequency=1"]
OPTIONS = [part for change in SMALL for part in ("--set", change)]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return search.run("vit_digits", changes=["trials=6"], out=tmp_path / "runs" / "first", objective=BOWL)


def test_resuming_what_is_not_there_names_what_is_near(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    other = run.path.with_name("frist")
    line = line_of("search", ["vit_digits", "--resume", "--out", str(other)], capsys)
    assert f"{other} holds no search to go on with; near: {run.path}; leave out --resume to begin one" in line
    assert "leave out --resume" in line_of("train", ["vit_digits", "--resume", "--out", str(other)], capsys)
    assert not other.exists()


def test_resuming_where_one_stands(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    monkeypatch.chdir(run.path.parent)
    assert ". holds no search to go on with; near: first;" in line_of(
        "search", ["vit_digits", "--resume", "--out", "."], capsys
    )
    monkeypatch.chdir(run.path)
    export.main(["."])
    assert "of the search first: score" in Path("best/first-1.yaml").read_text()


def test_resuming_what_has_ended_is_said(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    search.run("vit_digits", changes=["trials=6"], out=run.path, objective=BOWL, resume=True)
    assert "all 6 trials have ended; --trials N adds more" in capsys.readouterr().err


def test_a_time_limit_that_ends_a_search_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(*arguments: Any, **options: Any) -> RunDirectory:
        return whole(*arguments, **options, objective=BOWL)

    whole = search.run
    monkeypatch.setattr(search, "run", slowly)
    search.main(["vit_digits", "--trials", "99999", "--time-limit", "1s", "--out", str(tmp_path / "run")])
    printed = capsys.readouterr().err
    assert "the time limit of 1s ended the search after " in printed and " of 99999 trials; --resume goes on" in printed


def test_an_export_says_how_many_there_are_and_removes_its_own_earlier_files(
    run: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a best"
    capsys.readouterr()
    export.main([str(run.path), "--top", "100", "--out", str(out)])
    lines = capsys.readouterr().out.splitlines()
    assert len(list(out.iterdir())) == len(lines) - 1 > 2
    assert lines[-1].startswith(f"{len(lines) - 1} of 100: ")
    assert (
        f"# again:    python -m oialr_hpo.train {shlex.quote(str(out / 'first-1.yaml'))}" in Path(lines[0]).read_text()
    )

    edited, foreign = out / "first-2.yaml", out / "first-mine.yaml"
    edited.write_text(edited.read_text().replace("epochs: 12", "epochs: 13"))
    foreign.write_text("task: mine")
    export.main([str(run.path), "--top", "1", "--out", str(out)])
    assert {path.name for path in out.iterdir()} == {"first-1.yaml", "first-2.yaml", "first-mine.yaml"}
    printed = capsys.readouterr().out
    assert printed.count("removed ") == len(lines) - 3 and "first-mine" not in printed
    assert f"{edited} is no export of this search, or was changed since; move it away" in line_of(
        "export", [str(run.path), "--top", "2", "--out", str(out)], capsys
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [("tabel3", "did you mean 'table3'? known: table2, table3, table4, "), ("vit_digit", "did you mean 'vit_digits'?")],
)
def test_a_mistyped_table_or_experiment(name: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said in line_of("reproduce", [name], capsys)


def test_a_checkpoint_that_is_not_there_is_said_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "image_task", pytest.fail)
    (tmp_path / "weights.pt").touch()
    (tmp_path / "directory.pt").mkdir()
    for name, said in (
        ("nope", "no such file"),
        ("weight.pt", "'weights.pt'?"),
        ("directory.pt", "a directory"),
    ):
        arguments = ["vit_digits", "--checkpoint", str(tmp_path / name), "--out", str(tmp_path / "out")]
        assert said in line_of("utilization.__main__", arguments, capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, "text", {"state_dict": 5}])
def test_weights_that_are_none(content: Any, tmp_path: Path) -> None:
    import torch

    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(weights.CheckpointError, match="holds something else than a state dict"):
        weights.read_weights(tmp_path / "weights.pt")


def test_weights_are_for_all_that_the_umask_lets_in_and_say_what_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "weights.safetensors"
    before = os.umask(0o027)
    try:
        train.main(["vit_digits", *OPTIONS, "--split", "test", "--threads", "1", "--weights", str(file)])
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    with safe_open(file, "pt") as opened:
        about = opened.metadata()
    assert json.loads(about["experiment"])["training"]["epochs"] == 2 and json.loads(about["ranks"])
    assert json.loads(about["score"])[0] > 0 and json.loads(about["versions"])["torch"]
    assert about["format"] == "pt"

    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("seed 0")]
    assert len(lines) == 3 and lines[-1].startswith("seed 0  test split  ")
    assert [("top1" in line, "lr" in line) for line in lines] == [(False, True), (False, True), (True, False)]
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_validation_and_test_have_lines_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    changes = ["training.epochs=2", "data.train_windows=64", "data.validation_windows=64", "training.patience=null"]
    trained = train.train(load("autoformer_quick", changes).fixed(), 0, 1, None, "test")
    first, second, tested = capsys.readouterr().out.splitlines()
    assert "mse" in first and "mse" in second and "lr" in second
    assert tested.startswith("seed 0  test split  ") and f"mse {trained.metrics['mse']:.4g}" in tested
    assert f"mse {trained.metrics['validation']['mse']:.4g}" in second


def test_a_training_is_one_trial_of_one_and_diverging_is_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    with pytest.raises(SystemExit, match="1"):
        train.main(
            ["vit_digits", *OPTIONS, "--method", "dense", "--set", "schedule.lr=1e30", "--set"]
            + ["training.optimizer=sgd", "--set", "training.clip_grad_norm=0.0", "--threads", "1", "--out", str(out)]
        )
    assert "seed 0 failed: the training loss is " in capsys.readouterr().err
    status.main([str(out)])
    assert f"{out}: 1 failed of 1 trials" in capsys.readouterr().out


def test_a_range_that_excludes_a_start_says_how_to_leave_it_out() -> None:
    narrow = "search.schedule.lr={float: [2e-3, 3e-3]}"
    with pytest.raises(ExperimentError, match="start_from") as caught:
        load("vit_digits", [narrow])
    change = shlex.split(str(caught.value).partition("--set ")[2])[0]
    assert load("vit_digits", [narrow, change]).search["schedule.lr"] == {"float": [2e-3, 3e-3]}


def test_files_of_others_are_not_replaced_without_a_word(
    run: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        report.main([str(run.path), "--out", str(tmp_path / "page")])
    lines = capsys.readouterr().out.splitlines()
    assert f"{tmp_path}/page/report.html" in lines and f"{tmp_path}/page/report.html (replaced an earlier one)" in lines


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("search", ["vit_digits", "--out"]),
        ("train", ["vit_digits", "--out"]),
        ("train", ["vit_digits", "--weights"]),
        ("reproduce", ["vit_digits", "--out"]),
        ("utilization.__main__", ["vit_digits", "--out"]),
    ],
)
def test_what_cannot_be_written_is_said_before_any_work(
    module: str,
    arguments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("prepare_data", "find_data"):
        monkeypatch.setattr(f"oialr_hpo.experiment.{name}", pytest.fail)
    (tmp_path / "file").touch()
    for place in (
        "/proc/nowhere/x",
        str(tmp_path / "file" / "x"),
        str(tmp_path / ("x" * 300)),
        f"{tmp_path}/a/{'y' * 4096}",
    ):
        line_of(module, [*arguments, place], capsys)
    wanted_otherwise = tmp_path if "weights" in arguments[-1] else tmp_path / "file"
    line_of(module, [*arguments, str(wanted_otherwise)], capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("status", ["RUN", "--json", "--csv"]),
        ("export", ["RUN", "--top", "2", "--pareto"]),
        ("report.__main__", ["RUN", "--out", "x", "--optuna", "study.db"]),
    ],
)
def test_options_of_which_one_would_be_ignored(
    module: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "not allowed with argument" in line_of(module, arguments, capsys)
