"""Searches whose settings are not all searched beside each other, from their file to what is made of them."""

import csv
import io
from pathlib import Path

import optuna
import pytest

from oialr_hpo import search
from oialr_hpo.experiment import load
from oialr_hpo.experiment.space import as_text
from oialr_hpo.export import export
from oialr_hpo.report import charts, page, study, tables
from oialr_hpo.report.facts import Facts
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.files import RunDirectoryError
from oialr_hpo.runs.leaders import untuned
from oialr_hpo.runs.ranking import best
from oialr_hpo.runs.trial import Role
from oialr_hpo.runs.warm_start import with_starts
from oialr_hpo.status import write_csv
from tests.engines.test_propulate import SCRIPT, mpirun, needs_mpi

NAME, BETAS = "schedule.name", "training.optimizer_arguments.betas"
OF_COSINE = {"schedule.k_decay", "schedule.min_lr"}
CHANGES = [
    f"search.{NAME}={{choices: [cosine, halving]}}",
    "search.schedule.k_decay={float: [0.1, 2.0], when: {schedule.name: cosine}}",
    "search.schedule.min_lr={float: [1e-3, 10], log: true, times: schedule.lr, when: {schedule.name: cosine}}",
    "search.training.batch_size={int: [16, 64], step: 16}",
    "training.optimizer_arguments={betas: [0.9, 0.99]}",
    f"search.{BETAS}={{choices: [[0.9, 0.99], [0.9, 0.999]]}}",
]
LOOSE = ["finalists.count=0", "score.trainable_weight=0.0", "early_stopping.enabled=false"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Twelve trials, of which evolution proposes the last two."""
    out = tmp_path_factory.mktemp("runs") / "run"
    for more, resume in ((["trials=10"], False), (["trials=12", "sampler.name=evolution"], True)):
        changes = [*CHANGES, *LOOSE, *more]
        search.run("vit_digits", changes=changes, out=out, resume=resume, jobs=2, objective="tests.objectives:bowl")
    return RunDirectory.open(out)


def searched(run: RunDirectory) -> list[dict[str, object]]:
    return [trial.settings for trial in run.trials() if trial.role is not Role.DENSE]  # type: ignore[misc]


def check(run: RunDirectory) -> None:
    always = run.experiment.space.parameters.keys() - OF_COSINE
    for settings in searched(run):
        assert settings.keys() == always | (OF_COSINE if settings[NAME] == "cosine" else set())
        if "schedule.min_lr" in settings:
            factor = settings["schedule.min_lr"] / settings["schedule.lr"]  # type: ignore[operator]
            assert 1e-3 * (1 - 1e-9) <= factor <= 10 * (1 + 1e-9)
        assert settings["training.batch_size"] in (16, 32, 48, 64) and settings[BETAS] in ([0.9, 0.99], [0.9, 0.999])


def test_a_trial_has_what_is_searched_beside_its_settings(run: RunDirectory) -> None:
    check(run)
    assert {settings[NAME] for settings in searched(run)} == {"cosine", "halving"}
    assert len({as_text(settings) for settings in searched(run)}) == 11
    own = untuned(run.trials(), run.experiment)
    assert own and own.role is Role.START and own.settings["schedule.min_lr"] == 1e-5


@needs_mpi
def test_ranks_go_on_with_it(run: RunDirectory, tmp_path: Path) -> None:
    changes = [*CHANGES, "finalists.count=0", "trials=6"]
    for more, resume in (([], ""), (["trials=10", "sampler.name=nsga2"], "resume")):
        done = mpirun(2, "-c", SCRIPT, str(tmp_path / "run"), "tests.objectives:bowl", resume, *changes, *more)
        assert done.returncode == 0, done.stderr
    again = RunDirectory.open(tmp_path / "run")
    check(again)
    assert len(searched(again)) == 9


def test_a_report_shows_where_settings_are_searched(run: RunDirectory) -> None:
    facts = Facts(run)
    drawn = {chart.name: chart for chart in charts.draw(facts)}
    for name, said in (
        ("importance", "only some trials have"),
        ("parallel", "None: it is not searched"),
        ("slices", ""),
    ):
        assert drawn[name].figure is not None and said in drawn[name].caption
    lines = drawn["importance"].figure.data[0].y
    assert any("k_decay" in key for key in lines) and any("betas" in key for key in lines)
    assert page.render(facts, [*drawn.values()])
    shown = tables.leaders(facts)
    assert "0.001 to 10, log times schedule.lr, only when schedule.name: &quot;cosine&quot;" in shown
    assert "16 to 64 by 16" in shown and "[0.9, 0.99] | [0.9, 0.999]" in shown
    derived = study.derive(run.trials(), run.experiment)
    for trial, frozen in zip(run.trials(), derived.trials, strict=True):
        labels = {BETAS: as_text(trial.settings[BETAS])} if BETAS in trial.settings else {}
        assert frozen.params == trial.settings | labels
        assert frozen.distributions.keys() == trial.settings.keys()
    assert isinstance(derived.trials[1].distributions["training.batch_size"], optuna.distributions.IntDistribution)


def test_what_is_exported_keeps_the_files_value(run: RunDirectory, tmp_path: Path) -> None:
    exported = [load(str(path)) for path in export(run, 20, tmp_path)]
    assert {one.value(NAME) for one in exported} == {"cosine", "halving"}
    for one, trial in zip(exported, best(run.trials(), 20), strict=True):
        assert all(as_text(one.value(key)) == as_text(value) for key, value in trial.settings.items())
        if one.value(NAME) == "halving":
            assert one.value("schedule.k_decay") == run.experiment.value("schedule.k_decay")
        started = with_starts(run.experiment, [tmp_path / f"run-{exported.index(one) + 1}.yaml"])
        assert started.starts()[0] == trial.settings
    table = io.StringIO()
    write_csv(run, table)
    for row, trial in zip(csv.DictReader(io.StringIO(table.getvalue())), run.trials(), strict=True):
        assert all(bool(row[key]) == (key in trial.settings) for key in OF_COSINE)


def test_a_search_goes_on_only_where_its_trials_are_points(run: RunDirectory) -> None:
    wider = load("vit_digits", [*CHANGES, "search.schedule.k_decay={float: [0.1, 2.0]}", *LOOSE])
    run.check_fits(wider)  # where it was not searched, it had the file's own value
    other = "search.schedule.k_decay={float: [0.1, 2.0], when: {training.batch_size: 16}}"
    with pytest.raises(RunDirectoryError, match=r"schedule.k_decay: it had .*, but is not searched there: only when"):
        run.check_fits(load("vit_digits", [*CHANGES, other, "start_from=[{}]", *LOOSE]))
