"""Searches whose space changes on resume: earlier trials count, or the change is refused before anything is written."""

import shutil
from pathlib import Path

import pytest
import yaml

from oialr_hpo.export import export
from oialr_hpo.report.write import write as write_report
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.files import RunDirectoryError
from oialr_hpo.status import status, summary
from tests.engines.test_propulate import SCRIPT, mpirun, needs_mpi
from tests.engines.test_search import run

KEY, OWN = "training.momentum", 0.9
ADDED = f"search.{KEY}={{float: [0.5, 0.95]}}"


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of five trials; the first is dense, the second has the file's own settings."""
    return run(tmp_path_factory.mktemp("five") / "run", "trials=5").path


@pytest.fixture
def out(five: Path, tmp_path: Path) -> Path:
    shutil.copytree(five, tmp_path / "run")
    return tmp_path / "run"


def content(out: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("sampler", ["tpe", "evolution", "pso"])
def test_a_setting_added_on_resume_had_the_files_value_before(out: Path, sampler: str) -> None:
    before = RunDirectory.open(out).trials()
    after = run(out, "trials=7", f"sampler.name={sampler}", ADDED, resume=True)
    trials = after.trials()
    assert [trial.settings for trial in trials[1:5]] == [trial.settings | {KEY: OWN} for trial in before[1:]]
    assert [trial.scores for trial in trials[:5]] == [trial.scores for trial in before]
    assert all(0.5 <= float(trial.settings[KEY]) <= 0.95 for trial in trials[5:])  # type: ignore[arg-type]
    assert summary(after) and status(after)["best"] and export(after, 9)
    if sampler == "tpe":
        assert write_report(after)
        unchanged = content(out)
        with pytest.raises(RunDirectoryError, match=f"trial 5 is not in the new search space: {KEY}: it had"):
            run(out, "trials=9", resume=True)
        assert content(out) == unchanged


@needs_mpi
def test_a_setting_added_on_resume_over_mpi(out: Path) -> None:
    done = mpirun(2, "-c", SCRIPT, str(out), "tests.objectives:bowl", "resume", "trials=9", ADDED)
    assert done.returncode == 0, done.stderr
    assert len(RunDirectory.open(out).trials()) == 9


@pytest.mark.parametrize(
    "change",
    [
        "oialr.cutoff={own}",
        "oialr.cutoff=0.123",
        "search.oialr.cutoff={{float: [0.05, 0.0501]}}",
        "search.oialr.cutoff={{choices: [0.3, 0.4]}}",
        f"search.{KEY}={{{{float: [0.91, 0.95]}}}}",
        "search.training.epochs={{int: [2, 4]}}",
        "training.epochs=13",
        "score.epoch=best",
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(out: Path, change: str) -> None:
    unchanged = content(out)
    change = change.format(own=RunDirectory.open(out).experiment.oialr.cutoff)
    with pytest.raises(RunDirectoryError, match="; take these back, or choose another --out") as refused:
        run(out, "trials=9", change, "start_from=[]", resume=True)
    assert len(str(refused.value)) <= 293
    assert content(out) == unchanged


def test_a_wider_range_goes_on(out: Path) -> None:
    assert len(run(out, "trials=6", "search.oialr.cutoff={float: [0.001, 0.95]}", resume=True).trials()) == 6


def test_a_setting_that_only_had_one_value_may_be_fixed_and_searched_again(tmp_path: Path) -> None:
    own = run(tmp_path, "trials=2").experiment.oialr.cutoff  # the dense model, and the file's own settings
    fixed = run(tmp_path, "trials=4", f"oialr.cutoff={own}", "start_from=[]", resume=True)
    assert "oialr.cutoff" not in fixed.experiment.search
    assert summary(fixed) and status(fixed)["best"] and export(fixed, 3)
    again = run(tmp_path, "trials=5", resume=True)
    assert {trial.settings["oialr.cutoff"] for trial in again.trials()[2:4]} == {own}


def test_a_directory_that_an_older_version_left_stuck_is_read_and_freed(out: Path) -> None:
    """It accepted a searched key fixed at the file's own value, though trials had others, and ran more trials."""
    original = (out / "experiment.yaml").read_text()
    fixed = yaml.safe_load(original)
    del fixed["search"]["oialr.cutoff"]
    for start in fixed["start_from"]:
        start.pop("oialr.cutoff", None)
    (out / "experiment.yaml").write_text(yaml.safe_dump(fixed, sort_keys=False))
    file = out / "trials" / "rank-0000.jsonl"
    (start, *_) = [line for line in file.read_text().splitlines() if '"oialr.cutoff": ' in line]
    cutoff = start.split('"oialr.cutoff": ')[1].split(",")[0]
    late = start.replace(f'"oialr.cutoff": {cutoff}, ', "").replace('"number": ', '"number": 9')
    file.write_text(f"{file.read_text()}{late}\n")
    stuck = RunDirectory.open(out)
    assert "oialr.cutoff" not in stuck.trials()[-1].settings
    assert summary(stuck) and status(stuck) and export(stuck, 3) and write_report(stuck)
    with pytest.raises(RunDirectoryError, match="oialr.cutoff: it had .*, now it is fixed at"):
        stuck.check_fits(stuck.experiment)
    (out / "experiment.yaml").write_text(original)
    assert stuck.trials()[-1].settings["oialr.cutoff"] == stuck.experiment.oialr.cutoff
    assert len(run(out, "trials=6", resume=True).trials()) == 6
