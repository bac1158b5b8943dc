"""The measurements run through their command, at the smallest size."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch

from oialr_hpo import search as search_command
from oialr_hpo import train
from oialr_hpo.benchmark import economy, importance, record, winners
from oialr_hpo.benchmark.__main__ import main
from oialr_hpo.benchmark.economy_peers import REPEATED, known
from oialr_hpo.benchmark.economy_search import search
from oialr_hpo.benchmark.economy_trunks import Trunks
from oialr_hpo.benchmark.recorded_world import World
from oialr_hpo.benchmark.records import Records, built_in
from oialr_hpo.runs.directory import RunDirectory


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Those of this process, and the environment, are afterwards what they were."""
    monkeypatch.setenv("KINETO_LOG_LEVEL", "99")
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (
            "layers --cases 768x768 conv3x3 --ranks 8 --rounds 1 --threads 1",
            ["dense", "rebuild", "chain", "hybrid", "ours"],
        ),
        (
            "step --networks vit autoformer --batch 1 --ranks 8 --rounds 1 --threads 1",
            ["dense", "rebuild", "ours", "autoformer"],
        ),
        ("epoch vit_digits --steps 1 --ranks 8 --threads 1", ["dense", "full", "rank 8", "images/s"]),
        ("run --batch 1 --depth 1 --width 96 --steps 3 --threads 1", ["trainable %", "oialr / dense"]),
        (
            "utilization vit_digits --epochs 1 --images 100 --tolerances 1 --threads 1",
            ["same ranks", "of 1", "fewer"],
        ),
        ("moments --seeds 1 --processes 1 --set training.epochs=1", ["(L*L)' v (R*R)", "mean of v", "all afresh"]),
    ],
)
def test_prints_a_row_for_every_alternative(
    arguments: str, expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main(arguments.split())
    printed = capsys.readouterr().out
    assert all(name in printed for name in expected), printed


def test_an_unknown_name_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["nonsense"])
    assert "moments" in capsys.readouterr().err


WHOLE = {"early_stopping.enabled": False}


def made_up(count: int = 40) -> Records:
    """Of vit_digits: an error that falls with the epochs, is least in the middle of the space, and noisy."""
    shipped = Records.load(built_in("vit_digits"))
    settings, rng = shipped.settings[:count], np.random.default_rng(0)
    genes = np.array([[*shipped.experiment.space.encode(each).values()] for each in settings])
    falling = np.linspace(0.5, 0.0, 12) + ((genes - 0.5) ** 2).sum(axis=1)[:, None, None] / 4 + 0.05
    shape = count, 2, 12
    curves = {
        "error": falling * rng.normal(1, 0.1, (count, 2, 1)),
        "trainable_percent": np.full(shape, 50.0),
        "total_percent": np.full(shape, 50.0),
        "seconds": np.broadcast_to(np.arange(1.0, 13.0), shape),
    }
    low_rank = np.broadcast_to(np.arange(12) >= 4, shape)
    return Records(shipped.experiment, settings, {k: v.astype(np.float32) for k, v in curves.items()}, low_rank)


def test_economy_prints_a_row_for_each_strategy_and_equal_seeds_give_equal_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_up().save(tmp_path / "some.npz")
    names = ["defaults before", "TPE, Hyperband"]
    printed = []
    for _ in range(2):
        of = ["--records", str(tmp_path / "some.npz"), "--seeds", "2", "--trials", "4", "--full", "4"]
        economy.main([*of, "--strategies", *names])
        printed.append(capsys.readouterr().out)
    assert all(name in printed[0] for name in [*names, "40 settings by 2 seeds", "Compute until"]), printed[0]
    assert printed[1] == printed[0]


def test_importance_of_recorded_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With an error of the cutoff alone it decides all, and the best have those that make it small."""
    records = made_up()
    cutoffs = np.array([each["oialr.cutoff"] for each in records.settings], np.float32)
    curves = records.curves | {"error": np.broadcast_to(cutoffs[:, None, None], records.low_rank.shape)}
    replace(records, curves=curves).save(tmp_path / "some.npz")
    importance.main(["--records", str(tmp_path / "some.npz"), "--resamples", "2"])
    rows = capsys.readouterr().out.splitlines()
    assert "40 settings by 2 seeds" in rows[0] and "of all" in rows[2] and "of the best" in rows[2]
    first = rows[3].split()
    assert first[0] == "oialr.cutoff" and float(first[1]) > 0.8 and f" {sorted(cutoffs)[1]:.1g}" in rows[3]


def test_records_are_the_same_once_they_were_saved(tmp_path: Path) -> None:
    saved = made_up()
    saved.save(tmp_path / "some.npz")
    loaded = Records.load(tmp_path / "some.npz")
    assert loaded.experiment == saved.experiment and loaded.settings == saved.settings
    assert all(np.array_equal(loaded.curves[name], curve) for name, curve in saved.curves.items())
    assert np.array_equal(loaded.low_rank, saved.low_rank)


OBJECTIVE = """
def falling(settings, seed, **given):
    for epoch in range(3):
        yield {
            "error": settings.model["x"] + seed % 7 - epoch,
            "trainable_percent": 50.0,
            "total_percent": 60.0,
            "seconds": epoch + 1.0,
        }
"""
FILE = """
objective: own:falling
model: {x: 0.1}
search: {model.x: {float: [0.0, 1.0]}}
score: {minimize: error}
training: {epochs: 3, batch_size: 1}
schedule: {lr: 1.0}
"""


def test_every_setting_is_recorded_with_every_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own.py").write_text(OBJECTIVE)
    (tmp_path / "own.yaml").write_text(FILE)
    file = tmp_path / "own.npz"
    record.main(
        [str(tmp_path / "own.yaml"), "--settings", "9", "--seeds", "2", "--file", str(file), "--out", f"{file}.d"]
    )
    records = Records.load(file)
    error = records.curves["error"]
    assert len({each["model.x"] for each in records.settings}) == 9 and error.shape == (9, 2, 3)
    for place, settings in enumerate(records.settings):
        seeds = (error[place, :, 0] - settings["model.x"]).round(3).tolist()
        assert seeds == [pytest.approx(place % 7, abs=1e-2), pytest.approx((10**6 + place) % 7, abs=1e-2)]
        assert np.diff(error[place]) == pytest.approx(-1.0, abs=1e-3)


def test_what_searches_claim_stands_beside_fresh_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own.py").write_text(OBJECTIVE)
    (tmp_path / "own.yaml").write_text(FILE)
    run = str(tmp_path / "run")
    search_command.main([str(tmp_path / "own.yaml"), "--out", run, "--trials", "3", "-q"])
    train.main([run, "--seeds", "7", "8", "9", "--out", f"{run}-fresh", "-q"])
    capsys.readouterr()
    winners.main([run])
    said = capsys.readouterr().out.splitlines()
    best = min(trial.scores[0] for trial in RunDirectory.open(tmp_path / "run").trials())
    fresh = fmean(trial.scores[0] for trial in RunDirectory.open(tmp_path / "run-fresh").trials())
    assert said[1].split()[:4] == ["run", f"{best:.4f}", "1", f"{fresh:.4f}"]
    assert said[-3].startswith(f"1 searches: {fresh:.4f}") and said[-1] == "9 epochs a search"
    with pytest.raises(SystemExit, match="2"):
        winners.main([f"{run}-fresh"])


def test_branches_share_the_dense_beginning_of_a_trunk() -> None:
    world = World(made_up())
    trunks = Trunks(world, share=1.0, among=2, seed=0)
    branching = search(world, {"trials": 6, "finalists.count": 0} | WHOLE, workers=1, seed=0, trunks=trunks)
    assert trunks.spared and all(0 < spared <= 4 for spared in trunks.spared.values())
    assert branching.seconds == pytest.approx(6 * 12 - sum(trunks.spared.values()))


def test_every_strategy_searches_and_none_exports_what_is_worse_than_the_worst_start() -> None:
    world = World(made_up())
    worst = max(map(world.truth, world.experiment.starts()))
    assert search(world, {"trials": 6}, workers=2, seed=0).seconds <= 6 * 12
    for name, peer in known().items():
        if name != "PriorBand":
            searched = peer(world, 3, 2, 0)
            assert searched.truth <= worst + 0.1, name
            assert 12 <= searched.seconds <= (3 + 2 * REPEATED) * 12, name


def test_a_training_differs_from_the_truth_as_the_recorded_seeds_do() -> None:
    world = World(records := made_up())
    settings = records.settings[0]
    scores = np.array([world.score(settings, seed) for seed in range(200)]) - 0.05  # the trainable share's part
    assert np.mean(scores) == pytest.approx(world.truth(settings) - 0.05, rel=0.05)
    assert 0.06 < np.std(scores) / np.mean(scores) < 0.16
    assert world.score(settings, 7) == world.score(settings, 7)


def test_a_part_of_the_records_is_kept_aside() -> None:
    records = made_up()
    assert World(records, "even").settings + World(records, "odd").settings == World(records).settings > 0
