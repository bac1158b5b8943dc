"""The probe: real short trainings on digits and an electrocardiogram."""

from pathlib import Path

import pytest

from oialr_hpo import probe, search
from oialr_hpo.benchmark import probe as benchmark
from oialr_hpo.experiment import load
from oialr_hpo.runs.files import RunDirectoryError

SMALL = ["training.epochs=8", "model.arguments.depth=1", "data.train_images=320"]


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
    assert "probe" not in capfd.readouterr().out.replace(str(out), "")

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
