"""A file has lines of several methods; those of the chosen one, and of none, are searched."""

from pathlib import Path

import pytest
import yaml

from oialr_hpo import search
from oialr_hpo.experiment import Experiment, ExperimentError, load, shipped
from oialr_hpo.methods import METHODS, load_method
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.exported import export

OF_NONE = ["schedule.lr", "training.weight_decay"]
FILE = """
task: tests.tiny_task:TinyTask
data: {}
model: {}
training: {epochs: 2, batch_size: 16}
schedule: {lr: 1e-2}
rigl: {density: 0.3}
score: {minimize: error}
search:
  oialr.cutoff: {float: [0.05, 0.5]}
  rigl.density: {float: [0.1, 0.5]}
  dlrt.rank: 0.25
  schedule.lr: {float: [5e-3, 5e-2], log: true}
  training.weight_decay: {float: [1e-5, 0.5], log: true}
start_from: [{oialr.cutoff: 0.2}, {}, {oialr.cutoff: 0.2, rigl.density: 0.2}, {schedule.lr: 2e-2}]
trials: 6
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "several.yaml"
    path.write_text(FILE)
    return path


def lines(experiment: Experiment) -> tuple[list[str], list[dict[str, object]]]:
    return [*experiment.search], experiment.start_from


def test_only_what_the_method_reads_is_searched(file: Path) -> None:
    lr = {"schedule.lr": 2e-2}
    assert lines(load(str(file))) == (["oialr.cutoff", *OF_NONE], [{"oialr.cutoff": 0.2}, {}, lr])
    rigl = load(str(file), ["method=rigl"])
    assert lines(rigl) == (["rigl.density", *OF_NONE], [{}, {"rigl.density": 0.2}, lr])
    assert rigl.start({})["rigl.density"] == 0.3
    dense = load(str(file), ["method=dense"])
    assert lines(dense) == (OF_NONE, [{}, lr]) == lines(rigl.with_settings({"method": "dense"}))
    dlrt = load(str(file), ["method=dlrt"])
    assert lines(dlrt) == (OF_NONE, [{}, lr]) and dlrt.value("dlrt.rank") == 0.25
    assert lines(load(str(file), ["method=tests.methods.own:TopK"])) == (OF_NONE, [{}, lr])


def test_a_changed_line_of_another_method_waits_for_it(file: Path) -> None:
    line = "search.rigl.frequency={int: [2, 200]}"
    assert load(str(file), [line]) == load(str(file))
    assert "rigl.frequency" in load(str(file), [line, "method=rigl"]).search


def test_where_methods_are_searched_all_their_lines_are(file: Path) -> None:
    both = load(str(file), ["search.method={choices: [rigl, oialr]}"])
    assert [*both.search] == ["oialr.cutoff", "rigl.density", *OF_NONE, "method"]
    assert both.trial({"method": "rigl", "rigl.density": 0.25}).value("rigl.density") == 0.25


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("rigl.densty: {float: [0, 1]}", "search.rigl.densty: no such setting; did you mean 'rigl.density'?"),
        ("dense.cutoff: {float: [0, 1]}", "search.dense.cutoff: no such setting"),
        ("rgl.density: {float: [0, 1]}", "search.rgl.density: no such setting"),
    ],
)
def test_a_key_that_no_method_has_is_refused(file: Path, line: str, said: str) -> None:
    file.write_text(FILE.replace("search:\n", f"search:\n  {line}\n"))
    with pytest.raises(ExperimentError) as caught:
        load(str(file))
    assert said in str(caught.value)


def test_a_run_and_its_export_are_of_one_method(file: Path, tmp_path: Path) -> None:
    made_up = {"objective": "tests.objectives:every_metric"}
    run = search.run(load(str(file), ["method=rigl"]), out=tmp_path / "run", **made_up)
    assert all(trial.settings.keys() == {"rigl.density", *OF_NONE} for trial in run.trials())
    (path,) = export(run)
    written = yaml.safe_load(path.read_text())
    assert written["rigl"]["density"] == run.trials()[written["evidence"]["trial"]].settings["rigl.density"]
    assert "oialr" not in written and "dlrt" not in written
    assert load(str(path)).method == "rigl" and export(run) == [path]


def test_a_run_that_searched_lines_of_other_methods_goes_on(file: Path, tmp_path: Path) -> None:
    """As those before this rule did."""
    made_up = {"objective": "tests.objectives:every_metric", "out": tmp_path / "run"}
    record = search.run(load(str(file), ["trials=3"]), **made_up).path / "experiment.yaml"
    record.write_text(record.read_text().replace("method: oialr", "method: rigl"))
    assert "oialr.cutoff" in RunDirectory.open(tmp_path / "run").trials()[0].settings
    search.run(load(str(file), ["method=rigl", "search.rigl.density=null"]), resume=True, **made_up)
    trials = RunDirectory.open(tmp_path / "run").trials()
    assert len(trials) == 6 and [*trials[-1].settings] == OF_NONE


@pytest.mark.parametrize("name", ["vgg_digits", "vgg16_cifar", "resnetrs101_imagenet", "vgg16_imagenet"])
@pytest.mark.parametrize("method", METHODS.names())
def test_the_files_of_table_2_start_from_the_papers_settings(name: str, method: str) -> None:
    experiment = load(name, [f"method={method}"])
    own = [key for key in experiment.search if key.startswith(f"{method}.")]
    assert {} in experiment.start_from and len(own) <= 6
    if method != "oialr":
        defaults = load_method(method).Settings().model_dump()
        start = experiment.start({})
        assert {key: start[key] for key in own} == {key: defaults[key.partition(".")[2]] for key in own}


def test_every_line_of_a_shipped_file_is_of_a_method_or_of_none() -> None:
    for path in shipped().glob("*.yaml"):
        searched = yaml.safe_load(path.read_text()).get("search", {})
        of_all = [load(path.stem, [f"method={method}"]).search for method in METHODS.names()]
        assert set(searched) <= {key for each in of_all for key in each}
