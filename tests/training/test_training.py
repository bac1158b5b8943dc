"""Training, export and retraining, on scikit-learn's real digits."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from oialr_hpo import export as export_command
from oialr_hpo import search, train
from oialr_hpo.experiment import Experiment, load
from oialr_hpo.export import export
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.files import RunDirectoryError
from oialr_hpo.runs.ranking import best
from oialr_hpo.runs.trial import State
from oialr_hpo.tasks.image_classification.networks import build_network
from oialr_hpo.training.loop import Diverged
from oialr_hpo.training.objective import build_task, evaluate

DROPOUT = {
    "img_size": 8,
    "patch_size": 4,
    "in_chans": 1,
    "embed_dim": 64,
    "depth": 1,
    "num_heads": 4,
    "proj_drop_rate": 0.1,
}
SMALL = ["training.epochs=3", "model.arguments.depth=1", "data.train_images=320", "oialr.delay=7", "oialr.frequency=2"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return search.run("vit_digits", changes=[*SMALL, "trials=4"], out=tmp_path_factory.mktemp("runs") / "small", jobs=1)


def test_a_trial_converts_and_cuts_and_reports_it(finished: RunDirectory) -> None:
    dense, untuned = finished.trials()[:2]
    assert [trial.state for trial in finished.trials()] == [State.COMPLETE] * 4
    assert dense.metrics["trainable_percent"] == 100 and dense.metrics["ranks"] == {}
    first, *_, last = untuned.epochs
    assert first["trainable_percent"] == 100 > last["trainable_percent"]
    assert last["ranks"] and untuned.metrics == last
    assert {"loss", "top1", "top5", "error", "total_percent", "seconds", "data_wait", "lr"} <= last.keys()


def test_a_record_says_how_often_the_network_was_right_about_its_batches(finished: RunDirectory) -> None:
    """As they were augmented, in training alone; at the beginning of an epoch it is counted anew."""
    dense = finished.trials()[0]
    assert all(0 <= record["train_top1"] <= 100 for record in dense.epochs)
    assert dense.epochs[-1]["train_top1"] > dense.epochs[0]["train_top1"] + 10
    task: Any = build_task(finished.experiment, seed=0, device=torch.device("cpu"), data_dir=None)
    network, batches = task.build_model(), list(task.train_batches(1))[:2]
    for batch in batches:
        task.loss(network, batch)
        task.loss(network.eval(), batch)
        with torch.no_grad():
            task.loss(network.train(), batch)
    hits = sum(int((network(images).argmax(1) == labels).sum()) for images, labels in batches)
    assert task.training_metrics() == {"top1": (100 * hits, sum(len(labels) for _, labels in batches))}
    assert task.training_metrics() == {"top1": (0, 0)}


def test_an_exported_file_gives_the_trials_own_numbers_again(
    finished: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = export(finished, 1, tmp_path)
    winner = best(finished.trials())[0]
    assert yaml.safe_load(path.read_text())["evidence"]["score"] == winner.score
    train.main([str(path)])
    assert f"the same score as trial {winner.number} of the search: {winner.score}" in capsys.readouterr().out


def test_a_trial_is_exported_and_trained_again_by_its_number(
    finished: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export_command.main([str(finished.path), "--trial", "0", "2", "--out", str(tmp_path)])
    files = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [file.name for file in files] == ["small-trial-0.yaml", "small-trial-2.yaml"]
    assert load(str(files[0])).method == "dense"
    train.main([str(finished.path), "--trial", "2"])
    said = capsys.readouterr().out
    assert f"the same score as trial 2 of the search: {finished.trials()[2].score}" in said
    winner = best(finished.trials())[0]
    again = train.choose_experiment(str(finished.path), None, ["training.epochs=1"])
    assert again.evidence["trial"] == winner.number and again.training.epochs == 1
    with pytest.raises(RunDirectoryError, match="has no trial 9; its trials are 0 to 3"):
        train.choose_experiment(str(finished.path), 9, [])
    export(finished, 1, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"small-trial-0.yaml", "small-trial-2.yaml", "small-1.yaml"}


def test_the_exported_file_knows_the_untuned_and_the_dense_method(finished: RunDirectory, tmp_path: Path) -> None:
    tuned = load(str(export(finished, 1, tmp_path)[0]))
    untuned = train.choose_method(tuned, "untuned")
    original = finished.experiment
    assert (untuned.oialr, untuned.schedule, untuned.training) == (original.oialr, original.schedule, original.training)
    assert train.choose_method(tuned, "dense").method == "dense"
    assert train.choose_method(tuned, "file") == tuned


def test_the_test_split_is_looked_at_once_at_the_end(finished: RunDirectory) -> None:
    experiment = finished.experiment
    first, second, last = evaluate(experiment, seed=0, split="test")
    assert "top1" not in first and "top1" not in second and 0 <= last["top1"] <= 100


def test_retraining_on_the_test_split_reports_it(finished: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = finished.experiment
    trials = [train.train(experiment, seed, 1, None, "test") for seed in (0, 1)]
    assert all(trial.metrics["top1"] == trial.epochs[-1]["top1"] for trial in trials)
    table = train.report(trials, "test").splitlines()
    assert table[0].startswith("test split, seeds 0 1") and any(line.startswith("top1") for line in table)


def test_equal_seeds_give_equal_runs_and_others_do_not(finished: RunDirectory) -> None:
    def losses(seed: int) -> list[float]:
        return [record["loss"] for record in evaluate(finished.experiment, seed=seed)]

    assert losses(1) == losses(1) != losses(2)


def test_any_seed_that_an_option_takes_can_be_trained(finished: RunDirectory) -> None:
    assert next(evaluate(finished.experiment, seed=10**18 - 1))["epoch"] == 1


def test_a_diverging_run_says_so(finished: RunDirectory) -> None:
    explosive: Experiment = finished.experiment.with_settings(
        {"schedule.lr": 1e30, "training.optimizer": "sgd", "training.clip_grad_norm": 0.0, "method": "dense"}
    )
    with pytest.raises(Diverged, match="the training loss is (nan|inf) in epoch 1"):
        list(evaluate(explosive, seed=0))


def test_a_schedule_that_does_not_fit_says_so(finished: RunDirectory) -> None:
    with pytest.raises(ValueError, match="fill the whole run of 15 steps; shorten them"):
        list(evaluate(finished.experiment.with_settings({"schedule.warmup": 50}), seed=0))


def test_nothing_to_export_is_an_error(tmp_path: Path) -> None:
    run = search.run(
        "vit_digits",
        changes=["trials=3", "constraints={trainable_percent: {max: 1}}"],
        out=tmp_path,
        objective="tests.objectives:bowl",
    )
    with pytest.raises(RunDirectoryError, match="no complete trial to export; 3 complete ones break the constraints"):
        export(run)


def test_the_mini_vit_is_the_papers() -> None:
    model = load("vit_cifar").model
    network = build_network(model["name"], model["arguments"])
    assert sum(parameter.numel() for parameter in network.parameters()) == 42_684_682


@pytest.mark.parametrize("epoch", [1, 2])  # dense, and after cuts of the rank
def test_an_interrupted_run_goes_on_to_the_same_numbers(finished: RunDirectory, tmp_path: Path, epoch: int) -> None:
    volatile = {"seconds", "setup_seconds", "data_wait", "step_milliseconds"}

    def numbers(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{key: value for key, value in record.items() if key not in volatile} for record in records]

    experiment = finished.experiment.with_settings({"oialr.cutoff": 0.4, "model.arguments": DROPOUT})
    checkpoint = tmp_path / "checkpoint.pt"
    unbroken = numbers(evaluate(experiment, seed=3))
    assert unbroken[0]["ranks"] == {} != unbroken[1]["ranks"]

    first = evaluate(experiment, seed=3, checkpoint=checkpoint)
    records = [next(first) for _ in range(epoch)]
    with pytest.raises(StopIteration):
        first.send("stop")
    assert numbers([*records, *evaluate(experiment, seed=3, checkpoint=checkpoint)]) == unbroken
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("delay", [1.0, 1])  # the best epoch's network is dense, or of low rank
def test_the_best_epochs_network_outlives_an_interruption(tmp_path: Path, delay: float) -> None:
    """A test of the best epoch, which the last checkpoint is past."""
    changes = ["training.epochs=4", "data.train_windows=64", "data.validation_windows=64", "training.patience=null"]
    worse = {"schedule.name": "cosine", "schedule.min_lr": 5.0, "oialr.delay": delay, "oialr.cutoff": 0.5}
    experiment = load("autoformer_quick", changes).fixed().with_settings(worse | {"score.epoch": "best"})
    checkpoint = tmp_path / "checkpoint.pt"
    unbroken = list(evaluate(experiment, seed=0, split="test"))
    validated = [record["loss"] for record in evaluate(experiment, seed=0)]
    assert validated.index(min(validated)) < 2  # over six seeds 10^4 times less than in the later ones

    first = evaluate(experiment, seed=0, split="test", checkpoint=checkpoint)
    for _ in range(3):
        next(first)
    with pytest.raises(StopIteration):
        first.send("stop")
    (last,) = evaluate(experiment, seed=0, split="test", checkpoint=checkpoint)
    volatile = ("seconds", "setup_seconds", "data_wait", "step_milliseconds")
    assert {key: last[key] for key in last if key not in volatile} == {
        key: value for key, value in unbroken[-1].items() if key not in volatile
    }
