"""A task outside the package goes through search, export and train as the built-in ones do."""

from pathlib import Path

import pytest

from oialr_hpo import search, train
from oialr_hpo.experiment import ExperimentError, load
from oialr_hpo.export import export
from oialr_hpo.runs.trial import State
from oialr_hpo.tasks import TaskSettings
from tests.character_model import CharacterModel

EXPERIMENT = """
task: tests.character_model:CharacterModel
data: {context: 8, windows: 2048}
model: {width: 64}
training: {epochs: 2, batch_size: 64}
schedule: {lr: 3e-3}
oialr: {delay: 0.3, frequency: 0.1}
score: {minimize: bits_per_character}
search:
  oialr.cutoff: {float: [0.01, 0.5], log: true}
  model.width: {choices: [32, 64]}
start_from: [{}]
trials: 3
"""


def test_a_task_outside_the_package_is_searched_exported_and_trained(tmp_path: Path) -> None:
    path = tmp_path / "characters.yaml"
    path.write_text(EXPERIMENT)
    run = search.run(load(str(path)), out=tmp_path / "run", jobs=1)
    trials = run.trials()
    assert [trial.state for trial in trials] == [State.COMPLETE] * 3
    # Uniform characters take 7 bits; over three seeds and both widths 4.7 to 5.5 are reached.
    assert all(2 < trial.metrics["bits_per_character"] < 6.5 for trial in trials)
    assert all(trial.metrics["trainable_percent"] < 100 for trial in trials)
    exported = load(str(export(run)[0]))
    trained = train.train(exported, exported.seed, exported.evidence["threads"], None, "validation")  # type: ignore[index]
    assert trained.score == exported.evidence["score"]  # type: ignore[index]
    tested = train.train(exported, exported.seed, 1, None, "test")
    assert tested.metrics["bits_per_character"] != trained.metrics["bits_per_character"]


def test_its_own_settings_are_checked_too(tmp_path: Path) -> None:
    path = tmp_path / "characters.yaml"
    path.write_text(EXPERIMENT.replace("width: 64", "widht: 64"))
    with pytest.raises(ExperimentError, match="characters.yaml: model.widht: unknown key; did you mean 'width'?"):
        load(str(path))


def test_its_metrics_have_the_direction_that_it_says(tmp_path: Path) -> None:
    path = tmp_path / "characters.yaml"
    path.write_text(EXPERIMENT.replace("minimize: bits", "maximize: bits"))
    with pytest.raises(ExperimentError, match="is better when smaller; write score: {minimize: bits_per_character}"):
        load(str(path))


class WithoutSettings(CharacterModel):
    """The obvious choice for a task that has none."""

    Settings = TaskSettings


def test_a_task_without_settings_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "plain.yaml"
    path.write_text(
        EXPERIMENT.replace("tests.character_model:CharacterModel", f"{__name__}:WithoutSettings")
        .replace("{context: 8, windows: 2048}", "{}")
        .replace("model: {width: 64}", "model: {}")
        .replace("  model.width: {choices: [32, 64]}\n", "")
    )
    assert load(str(path)).data == {} == load(str(path)).model
    with pytest.raises(ExperimentError, match="data.context: unknown key; data has no settings"):
        load(str(path), ["data.context=8"])
