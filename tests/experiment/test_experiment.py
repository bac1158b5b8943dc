import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from oialr_hpo.experiment import Experiment, ExperimentError, load, parse_yaml, shipped

SHIPPED = sorted(file.relative_to(shipped()).with_suffix("").as_posix() for file in shipped().rglob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_experiment_loads_and_survives_being_written(name: str) -> None:
    experiment = load(name)
    again = Experiment.model_validate(yaml.safe_load(yaml.safe_dump(experiment.dump())))
    assert again == experiment


def test_the_full_vit_cifar_is_the_papers() -> None:
    experiment = load("vit_cifar")
    assert (experiment.training.epochs, experiment.training.batch_size) == (300, 1024)
    published = experiment.starts()[1]
    steps = 300 * 49
    assert round(published["oialr.delay"] * steps) == 2500  # type: ignore[operator]
    assert round(published["oialr.frequency"] * steps) == 500  # type: ignore[operator]
    assert round(experiment.schedule.warmup * steps) == 490
    assert published["schedule.min_lr"] > published["schedule.lr"]  # type: ignore[operator]


def test_numbers_in_scientific_notation_are_numbers() -> None:
    assert parse_yaml("{a: 1e-3, b: 5e-5, c: -2E4, d: 1e, e: 1.5e3}", "") == {
        "a": 1e-3,
        "b": 5e-5,
        "c": -2e4,
        "d": "1e",
        "e": 1.5e3,
    }


def test_setting_a_searched_key_fixes_it() -> None:
    experiment = load("vit_digits", ["oialr.cutoff=0.2", "schedule.lr=1e-3"])
    assert experiment.oialr.cutoff == 0.2 and "oialr.cutoff" not in experiment.search
    assert all("oialr.cutoff" not in start for start in experiment.starts())


def test_a_range_can_be_replaced() -> None:
    experiment = load("vit_digits", ["search.oialr.cutoff={float: [0.05, 0.3]}"])
    assert experiment.search["oialr.cutoff"] == {"float": [0.05, 0.3]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("training.epoch=3", "training.epoch: unknown key; did you mean 'epochs'?"),
        ("training.epochs=abc", "training.epochs: input should be a valid integer, not 'abc'"),
        ("training.epochs=0", "training.epochs: input should be greater than or equal to 1, not 0"),
        ("oialr.delay=1.5", "oialr.delay: 1.5 is neither a whole number of steps nor a fraction of the run"),
        ("oialr.keep_first=yess", "oialr.keep_first: input should be a valid boolean"),
        ("search.oialr.cutof={float: [0.1, 0.2]}", "search.oialr.cutof: no such setting; did you mean 'oialr.cutoff'?"),
        ("search.oialr.cutoff={float: [0.3, 0.2]}", "the range [0.3, 0.2] is reversed; write [0.2, 0.3]"),
        ("search.oialr.cutoff={float: [0.1, 2]}", "search.oialr.cutoff: oialr.cutoff: input should be less than 1"),
        ("search.schedule.lr={float: [2e-3, 3e-3]}", "start_from[0]: schedule.lr: 0.005 lies outside the range"),
        ("training.optimizer=adamx", "training.optimizer: neither torch nor timm has an optimizer 'adamx'; did"),
        ("task=image_clasification", "did you mean 'image_classification'?"),
        ("task=no.module:Task", "No module named 'no'; is its directory on PYTHONPATH?"),
        ("data.datset=cifar10", "data.datset: unknown key; did you mean 'dataset'?"),
        ("time_limit=soon", "time_limit: 'soon' is not a duration; write 90s, 30m, 4h or 1d"),
        ("training", "write KEY=VALUE"),
        ("training.epochs=[1", "--set training.epochs=[1"),
        ("schedule.k_decay=.inf", "schedule.k_decay: inf is no number to work with"),
        ("model.arguments.drop_rate=.nan", "model.arguments.drop_rate: nan is no number to work with"),
        ("data.mean=[0.5, .inf]", "data.mean[1]: inf is no number to work with"),
        ("schedule.lr=1e999", "schedule.lr: inf is no number to work with"),
        ("evidence={threads: many}", "evidence.threads: input should be a valid integer, not 'many'"),
        ("evidence={untuned: [1]}", "evidence.untuned: input should be a valid dictionary, not [1]"),
        ("evidence=[1]", "evidence: input should be a valid dictionary, not [1]"),
    ],
)
def test_a_mistake_is_one_line_with_file_key_and_remedy(change: str, message: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        load("vit_digits", [change])
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_mistakes_in_a_file_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("task: image_classification\ntask: again\n")
    with pytest.raises(ExperimentError, match=r"mine.yaml:2: the key 'task' is given twice; keep one"):
        load(str(path))
    path.write_text("task: image_classification\n")
    with pytest.raises(ExperimentError, match=r"mine.yaml: data: missing; add it"):
        load(str(path))


def test_settings_are_shared_by_yamls_merge_key(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "extends: base.yaml\nsearch:\n  schedule.lr: &range {float: [1e-4, 1e-2], log: true}\n"
        "  schedule.min_lr: {<<: *range, float: [1e-5, 1e-2]}\n"
    )
    (tmp_path / "base.yaml").write_text(shipped().joinpath("vit_digits.yaml").read_text())
    search = load(str(path), ["start_from=[]"]).search
    assert search["schedule.lr"] == {"float": [1e-4, 1e-2], "log": True}
    assert search["schedule.min_lr"] == {"float": [1e-5, 1e-2], "log": True}


def test_bad_input_ends_with_status_2_and_writes_nothing(tmp_path: Path) -> None:
    for arguments in (["vit_digit"], ["missing.yaml"], ["vit_digits", "--set", "training.epoch=3"]):
        done = subprocess.run(
            [sys.executable, "-m", "oialr_hpo.search", *arguments], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_checking_a_file_loads_no_torch(tmp_path: Path) -> None:
    code = "import sys, oialr_hpo as o; o.search.run; o.experiment.load('vit_digits'); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
