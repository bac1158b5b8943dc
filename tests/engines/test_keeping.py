"""The networks of a search's best trials stay, those of no others, and are exported with their settings."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import oialr_hpo
from oialr_hpo import Mistake, export, search
from oialr_hpo.experiment import load
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.trial import State
from oialr_hpo.runs.weights import described
from oialr_hpo.training.objective import build_task, evaluate
from tests.engines.test_propulate import SCRIPT, mpirun, needs_mpi
from tests.engines.test_search import run
from tests.tiny_task import tiny

FILES = "tests.objectives:leaves_a_file"


def kept(run: RunDirectory) -> list[str]:
    return sorted(file.name for file in (run.path / "weights").iterdir())


def named(*numbers: int) -> list[str]:
    return [f"trial-{number:05d}.safetensors" for number in numbers]


def test_the_best_stay_and_no_more_over_sessions(tmp_path: Path) -> None:
    first = run(tmp_path, "trials=8", "keep_weights=3", objective=FILES)
    assert kept(first) == named(5, 6, 7)
    assert max(trial.metrics["kept"] for trial in first.trials()) <= 3 + 1  # beside those of the best, the other job's
    assert not first.experiment.dump().keys() & {"weights"} and first.experiment.keep_weights == 3
    (tmp_path / "weights" / "trial-00002.safetensors.partial").touch()
    (tmp_path / "weights" / "trial-00099.safetensors").touch()
    second = run(tmp_path, "trials=9", "keep_weights=2", objective=FILES, resume=True, jobs=1)
    assert kept(second) == named(7, 8)
    third = run(tmp_path, "trials=10", objective=FILES, resume=True, jobs=1)  # asks for none: what is there stays
    assert kept(third) == named(7, 8)


@needs_mpi
def test_over_mpi_too(tmp_path: Path) -> None:
    done = mpirun(2, "-c", SCRIPT, str(tmp_path / "run"), FILES, "", "trials=6", "keep_weights=2")
    assert done.returncode == 0, done.stderr
    assert kept(RunDirectory.open(tmp_path / "run")) == named(4, 5)


def test_an_objective_that_takes_no_weights_keeps_none(tmp_path: Path) -> None:
    objective = "tests.objectives:of_the_old_arguments"
    finished = run(tmp_path, "trials=3", "keep_weights=3", objective=objective, jobs=1)
    assert {trial.state for trial in finished.trials()} == {State.COMPLETE}
    assert not (tmp_path / "weights").exists()
    assert "takes no argument weights" in (tmp_path / "logs" / "rank-0000.log").read_text()


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    lines = {"search": {"oialr.cutoff": {"choices": [0.2, 0.5, 0.9]}}, "trials": 3, "keep_weights": 2}
    settings = {**lines, "dense_baseline": False, "early_stopping.enabled": False}
    return search.run(tiny(**settings), out=tmp_path_factory.mktemp("searched") / "run")


def measured(network: torch.nn.Module) -> float:
    task: Any = build_task(tiny(), seed=0, device=torch.device("cpu"), data_dir=None)
    with torch.no_grad():
        return float(task.evaluate(network, "validation")["mse"])


def test_an_exported_trial_has_its_network_beside_it(
    searched: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ranked = sorted(searched.trials(), key=lambda trial: trial.goals)
    assert kept(searched) == named(*sorted(trial.number for trial in ranked[:2]))
    out = ["--out", str(tmp_path)]
    export.main([str(searched.path), "--top", "3", *out])
    files = [tmp_path / f"run-{place}.yaml" for place in (1, 2, 3)]
    networks = [file.with_suffix(".safetensors") for file in files]
    assert capsys.readouterr().out.split() == [
        str(file) for file in (files[0], networks[0], files[1], networks[1], files[2])
    ]
    for file, network, trial in zip(files, networks, ranked[:2], strict=False):
        for given in (file, network, searched.weights(trial.number)):
            assert measured(oialr_hpo.load(given, merge=False)) == pytest.approx(trial.score, rel=1e-5)
        about = described(network)
        assert about["search"] == {"run": "run", "trial": trial.number}
        assert about["experiment"]["evidence"]["score"] == trial.score and about["ranks"] == trial.metrics["ranks"]
        assert f"# network:  oialr_hpo.load({str(file)!r})" in file.read_text()
    with pytest.warns(UserWarning, match="its network is untrained"):
        oialr_hpo.load(files[2])

    files[1].rename(files[2].with_name("other.yaml"))
    export.main([str(searched.path), "--top", "2", *out])
    files[0].write_text(files[1].read_text())  # as if the best had been another trial
    networks[0].write_bytes(networks[1].read_bytes())
    export.main([str(searched.path), *out])
    assert measured(oialr_hpo.load(files[0])) == pytest.approx(ranked[0].score, rel=1e-4)
    assert not networks[1].exists() and not files[1].exists()
    networks[0].write_bytes(b"my own")
    with pytest.raises(SystemExit, match="2"):
        export.main([str(searched.path), *out])
    assert "run-1.safetensors is no export of a search; move it away" in capsys.readouterr().err
    assert networks[0].read_bytes() == b"my own"


def test_a_trial_is_trained_with_the_seed_that_is_searched(tmp_path: Path) -> None:
    lines = {"search": {"seed": {"choices": [7, 3]}}, "start_from": [{"seed": 7}, {"seed": 3}], "trials": 2}
    finished = search.run(tiny(**lines, **{"dense_baseline": False}), out=tmp_path / "run")
    trials = finished.trials()
    assert [trial.seed for trial in trials] == [trial.settings["seed"] for trial in trials] == [7, 3]
    for trial, file in zip(trials, export.export_trials(finished, [0, 1], tmp_path), strict=True):
        again = load(str(file))
        assert again.seed == trial.seed
        assert [*evaluate(again, seed=again.seed)][-1]["mse"] == trial.metrics["mse"]


def test_a_damaged_network_is_said(searched: RunDirectory, tmp_path: Path) -> None:
    (number, *_) = [int(name[6:11]) for name in kept(searched)]
    file = searched.weights(number)
    whole = file.read_bytes()
    file.write_bytes(b"\2" + b"\0" * 7 + b"[x")
    try:
        with pytest.raises(Mistake, match="is damaged; remove it"):
            export.export_trials(searched, [number], tmp_path)
    finally:
        file.write_bytes(whole)
    assert json.loads(json.dumps(described(file)))["seed"] == number
