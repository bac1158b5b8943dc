"""An objective of one's own, in place of a task: named in a file or given as a function, known to every command."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from oialr_hpo import experiment, reproduce, search, status, train
from oialr_hpo.experiment import Experiment, ExperimentError
from oialr_hpo.export import export
from oialr_hpo.mistake import Mistake
from oialr_hpo.runs.directory import RunDirectory
from tests.engines.test_propulate import MPIRUN, mpirun

FILE = """
objective: tests.engines.test_objective:loop
model: {width: 64}
data: {anything: {goes: here}}
score: {minimize: loss}
search: {model.width: {choices: [16, 32, 64]}, data.anything.goes: {choices: [here, there]}}
trials: 4
"""


def loop(experiment: Experiment, *, seed: int, **_: Any) -> Iterator[dict[str, float]]:
    for epoch in (1, 2):
        yield {"loss": seed + experiment.model["width"] / epoch}


def by_split(experiment: Experiment, *, seed: int, split: str = "validation", **_: Any) -> dict[str, float]:
    """One record, returned."""
    return {"loss": {"validation": 1.0, "test": 2.0}[split]}


def narrow(experiment: Experiment, seed: int) -> None: ...


number = 3


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(FILE)
    return "mine.yaml"


def test_every_command_knows_the_objective_of_a_file(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    search.main([file])
    run = RunDirectory.open(Path("runs/mine"))
    recorded = yaml.safe_load(Path("runs/mine/experiment.yaml").read_text())
    assert recorded["objective"] == "tests.engines.test_objective:loop" and not {"task", "training"} & recorded.keys()
    assert [len(trial.epochs) for trial in run.trials()] == [2] * 4
    (exported,) = export(run)
    assert yaml.safe_load(exported.read_text())["objective"] == recorded["objective"]
    capsys.readouterr()
    train.main([str(exported)])
    printed = capsys.readouterr().out
    assert "epoch 2  loss" in printed and "the same score as trial" in printed
    train.main(["runs/mine", "--trial", "0", "--seeds", "1", "2", "--out", "trained"])
    assert [trial.metrics["loss"] for trial in RunDirectory.open(Path("trained")).trials()] == [
        seed + run.trials()[0].settings["model.width"] / 2 for seed in (1, 2)
    ]
    status.main(["runs/mine"])
    assert "4 complete of 4" in capsys.readouterr().out


def test_a_search_goes_on_with_the_objective_that_it_had(file: str) -> None:
    Path(file).write_text(FILE.replace("objective: tests.engines.test_objective:loop\n", ""))
    with pytest.raises(ExperimentError, match="mine.yaml: task: missing; add it"):
        search.run(file)
    began = search.run(file, objective=loop, changes=["trials=2"])
    assert len(search.run(file, resume=True).trials()) == 4
    assert experiment.load(str(began.path / "experiment.yaml")).objective.endswith(":loop")
    Path(file).write_text(FILE.replace(":loop", ":by_split"))
    with pytest.raises(ExperimentError, match=r"had the objective .*:loop, now it is .*:by_split; take that back"):
        search.run(file, resume=True)
    for given in (file, experiment.load(file)):
        with pytest.raises(ExperimentError, match=r"had the objective .*:loop, now it is .*:by_split; take that back"):
            search.run(given, out=began.path, objective=by_split, resume=True)


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        ("nonsense", "'nonsense' names no function; write package.module:function"),
        ("tests.engines.test_objective:lop", "has no lop; did you mean 'loop'"),
        ("tests.engines.test_objective:number", "is no function but int"),
        ("tests.engines.test_objective:narrow", "unexpected keyword argument 'worker'; .* end its parameters with"),
        ("my_lop:train", "No module named 'my_lop'; is its directory on PYTHONPATH?"),  # as a training process says
        ("my_loop.py:train", "my_loop.py cannot be imported: FileNotFoundError"),
        (lambda experiment, **_: {}, "cannot find .*<lambda> by a name; define it with def in a module"),
    ],
)
def test_what_cannot_be_called_is_refused_before_anything_is_written(file: str, objective: Any, said: str) -> None:
    with pytest.raises(Mistake, match=said):
        search.run(file, objective=objective)
    assert not Path("runs").exists()


def test_what_an_objective_cannot_do_is_refused(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    for door, *arguments in (
        (train, "--split", "test"),
        (train, "--weights", "w.safetensors"),
        (reproduce,),
    ):
        with pytest.raises(SystemExit, match="2"):
            door.main([file, *arguments])
        assert "objective" in (error := capsys.readouterr().err) or "has none" in error
        assert len(error.splitlines()) == 1
    assert {path.name for path in Path().iterdir()} <= {file, "runs"}
    train.main([file, "--split", "test", "--set", "objective=tests.engines.test_objective:by_split"])
    assert "loss 2" in capsys.readouterr().out


SCRIPT = """
from helper import HALF
from oialr_hpo import search

def train(experiment, *, seed, **_):
    return {"loss": HALF * experiment.model["width"]}

if GUARD:
    print(len(search.run("mine.yaml", objective=train, changes=["trials=2"]).trials()), "trials")
"""


def test_a_function_of_a_script_is_found_by_the_script_s_file(file: str) -> None:
    Path("scripts").mkdir()
    Path("scripts/helper.py").write_text("HALF = 0.5")
    for guard, said in (("__name__ == '__main__'", "2 trials"), ("True", "call search.run below if __name__")):
        Path("scripts/script.py").write_text(SCRIPT.replace("GUARD", guard))
        done = subprocess.run([sys.executable, "scripts/script.py"], capture_output=True, text=True)
        assert said in (done.stdout + done.stderr).splitlines()[-1]
        if guard != "True":
            train.main(["runs/mine"])
            Path("runs").rename("earlier")
    assert not Path("runs").exists()


@pytest.mark.skipif(not MPIRUN.exists(), reason="no mpirun")
def test_over_mpi(file: str) -> None:
    done = mpirun(2, "-m", "oialr_hpo.search", str(Path(file).absolute()), "--out", str(Path("run").absolute()))
    assert done.returncode == 0, done.stderr
    assert len(RunDirectory.open(Path("run")).trials()) == 4
