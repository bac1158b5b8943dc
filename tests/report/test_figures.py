"""Pictures of trainings beside each other, of made-up records, complete ones and those of older versions."""

from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from oialr_hpo import figures, search
from oialr_hpo.report.course import Course, chosen
from oialr_hpo.report.training_curves import draw
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.trial import Role, Trial

EVENTFUL = "tests.objectives:eventful"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    out = tmp_path_factory.mktemp("runs") / "eventful"
    return search.run("vit_digits", changes=["trials=4", "early_stopping.enabled=false"], out=out, objective=EVENTFUL)


def course(run: RunDirectory, records: list[dict[str, Any]], number: int = 1, role: Role = Role.START) -> Course:
    trial = Trial(number=number, role=role, settings={}, seed=number, worker=0)
    trial.epochs = [{"epoch": epoch, **record} for epoch, record in enumerate(records, 1)]
    return Course(run, trial)


def curves(figure: Figure | None) -> dict[str, list[float]]:
    """What is drawn, by its label without the last number."""
    assert figure
    lines = [line for axes in figure.axes for line in axes.get_lines()]
    return {str(each.get_label()).rpartition(":")[0]: [*map(float, each.get_ydata())] for each in lines}  # type: ignore


def texts(figure: Figure | None) -> str:
    assert figure
    return "\n".join([figure.axes[0].get_title("left"), figure.get_supxlabel()])


def test_a_trial_is_drawn_beside_its_dense_baseline(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    figures.main([str(run.path), "--trial", "1"])
    files = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [file.name for file in files] == ["trial-0001-ranks.png", "trial-0001-training.png"]
    assert np.asarray(matplotlib.image.imread(files[1]))[..., :3].std() > 0.02
    courses = chosen([run], [1])
    assert [each.method for each in courses] == ["oialr", "dense"]
    drawn = curves(draw(courses))
    for name, trial in (("oialr", run.trials()[1]), ("dense", run.trials()[0])):
        assert drawn[f"{name}, validation"] == [record["error"] for record in trial.epochs]
        assert drawn[name] == [record["trainable_percent"] for record in trial.epochs]
    assert "not recorded of oialr: error of training" in texts(draw(courses))


def test_any_trials_are_drawn_beside_each_other(run: RunDirectory) -> None:
    assert [each.trial.number for each in chosen([run], [2, 3, 0])] == [2, 3, 0]
    assert [each.trial.number for each in chosen([run, run], [2])][0] == 2
    assert len(chosen([run], [0])) == 1
    assert {"oialr, trial 2, validation", "oialr, trial 3, validation"} <= curves(
        draw(chosen([run, run], [2, 3]))
    ).keys()


def test_a_trial_may_stand_behind_its_run(run: RunDirectory, tmp_path: Path) -> None:
    figures.main([str(run.path), "--trial", "2", str(run.path), "--trial", "3", "--out", str(tmp_path)])
    assert (tmp_path / "trial-0002-training.png").is_file()


def test_more_trials_than_runs_are_one_clear_line(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        figures.main([str(run.path), str(run.path), *("--trial", "1") * 3])
    assert capsys.readouterr().err.startswith("error: --trial is given 3 times for 2 runs; ")


def test_the_dip_at_the_change_over_is_told(run: RunDirectory) -> None:
    dense = [{"top1": 50.0 + n, "error": 0.5 - n / 100, "trainable_percent": 100.0} for n in range(4)]
    dips = [50.0, 60.0, 55.0, 61.0]
    small = [record | {"top1": dips[n], "ranks": {"a": 3} if n > 1 else {}} for n, record in enumerate(dense)]
    figure = draw([course(run, small), course(run, dense, 0, Role.DENSE)])
    assert "the dip at d of oialr: top1 60 to 55, made up for in epoch 4" in texts(figure)
    assert curves(figure)["dense, validation"] == [record["top1"] for record in dense]
    assert course(run, small[:3]).dip(course(run, small).goal) == (60.0, 55.0, None)
    assert course(run, small[2:]).dip(course(run, small).goal) is None


def test_a_loss_that_is_the_metric_is_that_of_training_too(run: RunDirectory) -> None:
    """As of forecasting; where all of it lies above validation's it has a panel of its own. The test is a star."""
    run_mse = RunDirectory(run.path)
    records = [{"error": 0.3 - n / 10, "loss": 0.3 - n / 10, "train_loss": 0.9 - n / 10} for n in range(3)]
    tested = records[2] | {"error": 0.2, "loss": 0.2, "validation": {"error": 0.25, "loss": 0.25}}
    figure = draw([course(run_mse, [*records[:2], tested])])
    drawn = curves(figure)
    assert drawn["oialr, training"] == [record["train_loss"] for record in records]
    assert drawn["oialr, validation"] == [0.3, 0.3 - 1 / 10, 0.25] and drawn["oialr, test"] == [0.2]
    assert figure and "error of\ntraining" in [axes.get_ylabel() for axes in figure.axes]
    assert len(figure.axes) == 3


def test_stability_is_the_mean_of_the_layers(run: RunDirectory) -> None:
    """A training that did not track it is drawn without, and says so."""
    values = {"stability": {"a": 0.5, "b": 1.0}}
    figure = draw([course(run, [{"error": 0.5}, {"error": 0.4} | values]), course(run, [{"error": 0.5}], 2)])
    assert curves(figure)["oialr, trial 1"] == [0.75]
    assert "not recorded of oialr, trial 2: error of training, stability (training.track)" in texts(figure)


def test_what_has_no_metric_is_not_drawn(run: RunDirectory) -> None:
    assert draw([course(run, [{"loss": 1.0}])]) is None
