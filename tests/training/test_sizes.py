"""Counts of parameters, and percents that all trials of a search share one base of."""

from pathlib import Path

import pytest
import yaml

from oialr_hpo import search
from oialr_hpo.experiment import Experiment, ExperimentError, load
from oialr_hpo.export import export
from oialr_hpo.reproduce.comparison import Comparison
from oialr_hpo.reproduce.runner import Runner
from oialr_hpo.reproduce.variants import for_dense
from oialr_hpo.training.objective import evaluate

TINY = (
    *("training.epochs=2", "data.train_images=128", "model.arguments.depth=2", "oialr.delay=0.5"),
    *("score.minimize=loss", "score.trainable_weight=1", "search.model.arguments.depth={choices: [1, 2]}"),
)


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return load("vit_digits", TINY)


def last(experiment: Experiment) -> dict[str, float]:
    return list(evaluate(experiment, seed=0))[-1]


def test_percents_refer_to_the_dense_network_of_the_file(experiment: Experiment) -> None:
    dense = last(experiment.with_settings({"method": "dense", "training.epochs": 1}))
    assert dense["total_percent"] == dense["trainable_percent"] == 100
    assert dense["parameters"] == dense["trainable_parameters"]
    for trial in (experiment, experiment.trial({"model.arguments.depth": 1})):
        found = last(trial)
        assert found["total_percent"] == pytest.approx(100 * found["parameters"] / dense["parameters"])
        assert found["trainable_percent"] == pytest.approx(100 * found["trainable_parameters"] / dense["parameters"])
        assert 0 < found["trainable_parameters"] < found["parameters"]
    shallow = last(experiment.trial({"model.arguments.depth": 1, "method": "dense", "training.epochs": 1}))
    assert 40 < shallow["total_percent"] < 70


def test_only_what_changes_the_network_is_kept_as_reference(experiment: Experiment) -> None:
    assert experiment.trial({"schedule.lr": 1e-3, "model.arguments.depth": 2}).reference == {}
    shallow = experiment.trial({"schedule.lr": 1e-3, "model.arguments.depth": 1})
    assert shallow.reference == {"model.arguments.depth": 2}
    assert shallow.trial({"model.arguments.depth": 3}).reference == shallow.reference  # the file says so itself


def test_an_exported_file_has_the_percents_of_its_search(tmp_path: Path, experiment: Experiment) -> None:
    alone = experiment.model_copy(
        update={"search": {"model.arguments.depth": {"choices": [1]}}, "start_from": [], "dense_baseline": False}
    )
    run = search.run(alone.model_copy(update={"trials": 1}), out=tmp_path / "run", jobs=1)
    (path,) = export(run)
    assert yaml.safe_load(path.read_text())["reference"] == {"model.arguments.depth": 2}
    (trial,) = run.trials()
    assert f"{trial.metrics['trainable_parameters']:,} of {trial.metrics['parameters']:,}" in path.read_text()
    exported = load(str(path))
    found = list(evaluate(exported, seed=exported.seed, threads=trial.threads))[-1]
    names = ("parameters", "trainable_parameters", "total_percent", "trainable_percent")
    assert [found[name] for name in names] == [trial.metrics[name] for name in names]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("reference={model.arguments.dept: 3}", "reference.model.arguments.dept: no such setting; did you mean"),
        ("reference={model.nme: 3}", "reference.model.nme: no such setting; did you mean 'model.name'"),
        ("reference={model.name: 3}", "reference: model.name: input should be a valid string"),
    ],
)
def test_a_reference_is_checked_like_the_file(change: str, message: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        load("vit_digits", [change])
    assert message in str(caught.value)


def test_the_dense_search_tunes_all_but_oialrs_own_settings(experiment: Experiment) -> None:
    searched = set(for_dense(experiment).search)
    assert searched == {key for key in experiment.search if not key.startswith("oialr.")}
    assert "model.arguments.depth" in searched


def test_where_nothing_is_searched_the_rows_are_those_untuned(tmp_path: Path) -> None:
    only_oialr = {"oialr.cutoff": {"float": [0.1, 0.2]}}
    plain = load("vit_digits").model_copy(update={"search": only_oialr, "start_from": [{}]})
    compared = Comparison("vit_digits", plain, plain, {})
    runner = Runner(compared, tmp_path, [1], 1, None)
    runs: list[str] = []
    runner._run = lambda name, *_: runs.append(name)  # type: ignore[method-assign, assignment, func-returns-value]
    assert runner.measure("dense, tuned").searched is None and runner.measure("dense").searched is None
    assert runs == ["dense-test", "dense-test"]
