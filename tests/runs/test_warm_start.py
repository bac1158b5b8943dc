"""Searches that start from what another search found, through the public door."""

import subprocess
import sys
from pathlib import Path

import pytest

from oialr_hpo import search
from oialr_hpo.experiment import ExperimentError, load
from oialr_hpo.export import export
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.ranking import best
from oialr_hpo.runs.trial import Role
from oialr_hpo.runs.warm_start import with_starts

BOWL = "tests.objectives:bowl"


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    out = tmp_path_factory.mktemp("runs") / "earlier"
    return search.run("vit_digits", changes=["trials=8", "seed=5"], out=out, objective=BOWL)


def test_the_best_of_a_run_and_its_exported_file_are_the_same_start(earlier: RunDirectory, tmp_path: Path) -> None:
    experiment = load("vit_digits")
    winner = best(earlier.trials())[0]
    (file,) = export(earlier, 1, tmp_path)
    for source in (earlier.path, file):
        started = with_starts(experiment, [source])
        assert started.starts()[0] == winner.settings
        assert started.starts()[1:] == experiment.starts()


def test_lines_without_a_prior_believe_in_the_first_source_that_names_them(
    earlier: RunDirectory, tmp_path: Path
) -> None:
    (tmp_path / "some.yaml").write_text("oialr: {cutoff: 0.25}\n")
    lines = [
        "search.oialr.cutoff={float: [0.01, 0.6]}",
        "search.oialr.delay={float: [0.05, 0.6], prior: 0.1}",
        "search.schedule.min_lr={float: [1e-3, 1], log: true, times: schedule.lr}",
        "start_from=[]",
    ]
    winner = best(earlier.trials())[0].settings
    (tmp_path / "both.yaml").write_text(
        f"schedule: {{lr: {winner['schedule.lr']}, min_lr: {winner['schedule.lr'] / 10}}}"
    )
    sources = [tmp_path / "some.yaml", tmp_path / "both.yaml"]
    priors = {key: spec.get("prior") for key, spec in with_starts(load("vit_digits", lines), sources).search.items()}
    assert priors["oialr.cutoff"] == 0.25 and priors["oialr.delay"] == 0.1
    assert priors["schedule.lr"] == winner["schedule.lr"] and priors["schedule.min_lr"] == pytest.approx(0.1)
    assert priors["oialr.frequency"] is None
    for source in (earlier.path, *export(earlier, 1, tmp_path)):
        learned = with_starts(load("vit_digits"), [source])
        assert {key: spec["prior"] for key, spec in learned.search.items()} == winner
        assert learned.space.decode(learned.space.priors) == pytest.approx(winner)


def test_a_search_tries_them_first(earlier: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "some.yaml").write_text("oialr: {cutoff: 0.25}\nschedule.lr: 2e-3\n")
    finished = search.run(
        "vit_digits",
        changes=["trials=5", "dense_baseline=false"],
        out=tmp_path / "run",
        objective=BOWL,
        start_from=[earlier.path, tmp_path / "some.yaml"],
    )
    first, second, *_ = finished.trials()
    assert first.role is second.role is Role.START
    assert first.settings == best(earlier.trials())[0].settings
    own = load("vit_digits")
    assert second.settings == {key: own.value(key) for key in own.search} | {"oialr.cutoff": 0.25, "schedule.lr": 2e-3}


def test_several_goals_start_from_the_whole_front(tmp_path: Path) -> None:
    two_goals = ["trials=12", "score={minimize: [error, trainable_percent]}"]
    objective = "tests.objectives:eventful"
    front = search.run("vit_digits", changes=two_goals, out=tmp_path, objective=objective)
    started = with_starts(load("vit_digits", two_goals), [front.path])
    assert not started.space.priors
    starts = started.starts()
    assert len(starts) > 3
    assert all(start in [trial.settings for trial in front.trials()] for start in starts[:-2])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("oialr: {cutoff: 0.9}", "start.yaml: oialr.cutoff: 0.9 lies outside the range [0.01, 0.6]; change it there"),
        ("oialr: {cutoff: high}", "oialr.cutoff: 'high' is not a number"),
        ("oialr: {delay: 2500}", "oialr.delay: 2500 lies outside the range [0.05, 0.6]"),
        ("data: {dataset: digits}", "it sets nothing that is searched here: oialr.delay"),
        ("- oialr", "an experiment is a mapping"),
        (None, "no such file or run directory"),
        ("", "an experiment is a mapping"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(tmp_path: Path, content: str | None, message: str) -> None:
    source = tmp_path / "start.yaml"
    if content is not None:
        source.write_text(content)
    with pytest.raises(ExperimentError) as caught:
        with_starts(load("vit_digits"), [source])
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_run_without_a_best_trial_is_refused(tmp_path: Path) -> None:
    failed = search.run("vit_digits", changes=["trials=3"], out=tmp_path / "run", objective="tests.objectives:fails")
    with pytest.raises(ExperimentError, match="no trial there is complete"):
        with_starts(load("vit_digits"), [failed.path])
    with pytest.raises(ExperimentError, match="holds no search"):
        with_starts(load("vit_digits"), [tmp_path])


def test_on_the_command_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "oialr_hpo.search", "vit_digits", "--start-from", "missing.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: --start-from missing.yaml: no such file or run directory\n"
    assert not list(tmp_path.iterdir())
