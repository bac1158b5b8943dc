"""The probe: real short trainings on digits and an electrocardiogram, and what it makes of made-up layers."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oialr_hpo import probe, search
from oialr_hpo.benchmark import probe as benchmark
from oialr_hpo.experiment import Experiment, load
from oialr_hpo.probing import Layer, Observation, document, narrow, narrowed, settling
from oialr_hpo.runs.files import RunDirectoryError

SMALL = ["training.epochs=8", "model.arguments.depth=1", "data.train_images=320"]
BOTH_ENDS = ["search.oialr.keep_first={choices: [false, true]}", "search.oialr.keep_last={choices: [false, true]}"]


def observation(*layers: Layer, share: float = 0.25) -> Observation:
    return Observation(list(layers), share, epochs=75, seconds=60.0, training_seconds=50.0, accuracy=80.0, mlu=0.3)


def changed(experiment: Experiment, seen: Observation) -> dict[str, object]:
    return {change.key: change.spec["float"] if change.spec else change.value for change in narrow(experiment, seen)}


def test_bases_count_as_settled_from_when_they_stay_so() -> None:
    assert settling([(1, 0.9), (2, 0.96), (3, 0.94), (4, 0.95), (5, 0.99)], 20) == 0.2
    assert settling([(1, 0.96), (2, 0.94)], 20) is None
    assert settling([], 20) is None


def test_ranges_follow_from_when_layers_settle_and_what_they_use() -> None:
    experiment = load("vit_digits", [*BOTH_ENDS, "start_from=[]"])
    layers = [
        Layer("first", 0.2, 64, 64, 0.05),
        Layer("second", 0.15, 64, 20, 0.2),
        Layer("third", 0.1, 64, 16, 0.3),
        Layer("last", 0.06, 10, 4, 0.4),
    ]
    assert changed(experiment, observation(*layers)) == {
        "oialr.delay": [0.06, 0.4],  # the first to settle, and twice the last
        "oialr.cutoff": [0.0125, 0.05],  # the cut that spares every layer, and a quarter of it
        "oialr.keep_first": True,  # its rank is used in full
        "oialr.keep_last": False,  # settled first, 4 of 10 used
    }
    late = [*layers[:2], Layer("third", None, 64, 16, 0.3), Layer("last", None, 10, 4, 0.4)]
    assert changed(experiment, observation(*late, share=0.2)) == {
        "oialr.delay": [0.15, 0.6],
        "oialr.cutoff": [0.0125, 0.05],
        "oialr.keep_first": True,
        "oialr.keep_last": True,
    }


def test_what_the_experiment_starts_from_stays_inside() -> None:
    experiment = load("vit_digits", BOTH_ENDS)  # it starts from d = 1/3 and 0.17, beta = 0.1 and 0.15
    layers = [Layer(name, 0.05, 64, 64, 0.3) for name in ("first", "last")]
    changes = narrow(experiment, observation(*layers))
    assert changed(experiment, observation(*layers)) == {
        "oialr.delay": [0.05, 0.333333333],
        "oialr.cutoff": [0.075, 0.3],
    }
    after = narrowed(experiment, observation(*layers), changes)
    assert after.starts()[:2] == experiment.starts() and after.oialr == experiment.oialr
    assert after.start_from[2] == {"oialr.delay": 0.05, "oialr.cutoff": 0.15}


def test_no_update_reaches_a_layer_before_it_has_settled() -> None:
    experiment = load("vit_digits", ["oialr.delay=0.1", "oialr.frequency=0.02", "start_from=[]"])
    layers = [Layer("first", 0.2, 64), *(Layer(f"layer {i}", 0.05, 64) for i in range(9))]
    (change,) = narrow(experiment, observation(*layers))
    assert change.key == "oialr.step_fraction" and change.spec == {"float": [0.02, 0.2]}
    # Updates at 0.12, 0.14, ... reach two layers more each time, the tenth in the fifth one, at 0.2.


layers = st.builds(
    Layer,
    name=st.just("layer"),
    settled=st.none() | st.floats(0.003, 0.25),
    max_rank=st.just(64),
    utilized_rank=st.none() | st.integers(1, 64),
    cutoff=st.none() | st.floats(1e-6, 1),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(layers, min_size=1, max_size=12), st.sampled_from(["vit_digits", "vit_cifar", "vgg16_cifar"]))
def test_whatever_is_seen_the_file_loads_and_lies_within_the_former_space(seen: list[Layer], name: str) -> None:
    import tempfile

    before = load(name, BOTH_ENDS)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "probed.yaml"
        observed = observation(*seen)
        file.write_text(document(before, observed, narrow(before, observed), "made by a test"))
        after = load(str(file))
    for start in after.starts():
        after.space.encode(start)
    for key, parameter in after.space.parameters.items():
        for value in parameter.extremes():
            before.space.parameters[key].check(value)
    fixed = set(before.search) - set(after.search)
    assert fixed <= {"oialr.keep_first", "oialr.keep_last"}
    assert after.starts()[: len(before.starts())] == [
        {key: value for key, value in start.items() if key not in fixed} for start in before.starts()
    ]


def test_the_command_writes_a_search_that_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "probed.yaml"
    options = [text for change in SMALL for text in ("--set", change)]
    probe.main(["vit_digits", *options, "--threads", "1", "--out", str(file)])
    printed = capsys.readouterr().out
    assert "epoch 2/2 of 8" in printed and "epoch 3" not in printed and "blocks.0.mlp.fc1" in printed
    text = file.read_text()
    assert f"# made by: python -m oialr_hpo.probe vit_digits {' '.join(options)}" in text
    assert "# was [0.01, 0.6]: a cut keeps the utilized rank in 90% of the layers up to" in text
    before, after = load("vit_digits"), load(str(file))
    assert after.search["oialr.cutoff"] != before.search["oialr.cutoff"]  # by cuts above 0.01; seeds: 0.11 to 0.29
    assert after.search["schedule.lr"] == before.search["schedule.lr"]
    found = search.run(str(file), changes=["trials=4"], out=tmp_path / "run", objective="tests.objectives:bowl")
    for trial in found.trials()[1:]:
        after.space.encode(trial.settings)
    probe.main(["vit_digits", *options, "--threads", "1", "--out", str(tmp_path / "again.yaml")])
    again = load(str(tmp_path / "again.yaml"))
    assert (again.search, again.start_from, again.oialr) == (after.search, after.start_from, after.oialr)


def test_a_task_without_validation_images_keeps_its_cutoffs(tmp_path: Path) -> None:
    file = tmp_path / "probed.yaml"
    small = ["training.epochs=4", "data.train_windows=32", "data.validation_windows=32"]
    experiment = load("autoformer_quick", small)
    probe.probe(experiment, file, "made by a test", threads=1)
    after = load(str(file))
    assert after.search["oialr.cutoff"] == experiment.search["oialr.cutoff"]
    assert after.evidence and all(layer["utilized_rank"] is None for layer in after.evidence["probe"]["layers"])


def test_a_search_probes_first_and_only_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    arguments = {"out": out, "objective": "tests.objectives:bowl", "probe": True}
    finished = search.run("vit_digits", changes=[*SMALL, "trials=4"], **arguments)  # type: ignore[arg-type]
    assert "probe  epoch 2/2 of 8" in capfd.readouterr().out
    narrowed = load(str(out / "probe.yaml"))
    assert finished.experiment.search == narrowed.search != load("vit_digits").search

    with pytest.raises(RunDirectoryError, match="already holds a search"):
        search.run("vit_digits", changes=[*SMALL, "trials=4"], **arguments)  # type: ignore[arg-type]
    more = search.run("vit_digits", changes=[*SMALL, "trials=6"], resume=True, **arguments)  # type: ignore[arg-type]
    assert len(more.trials()) == 6 and more.experiment.search == narrowed.search
    assert "probe" not in capfd.readouterr().out

    search.run("vit_digits", changes=[*SMALL, "trials=4"], out=tmp_path / "plain", objective="tests.objectives:bowl")
    benchmark.main(["--plain", str(tmp_path / "plain"), "--probed", str(out)])
    assert "1 pairs of searches; the probe cost" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["oialr.delay=0.2", "oialr.cutoff=0.1", "oialr.step_fraction=0.1"],
            "neither oialr.delay nor oialr.cutoff nor oialr.step_fraction is searched",
        ),
        (["schedule.lr=1e30", "training.clip_grad_norm=0.0"], "lower schedule.lr"),
    ],
)
def test_what_cannot_be_probed_is_one_line_and_writes_nothing(
    changes: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [text for change in [*SMALL, *changes] for text in ("--set", change)]
    with pytest.raises(SystemExit) as ended:
        probe.main(["vit_digits", *options, "--threads", "1", "--out", str(tmp_path / "probed.yaml")])
    assert ended.value.code == 2 and not list(tmp_path.iterdir())
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
