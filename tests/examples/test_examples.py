"""Every example runs as its header says, only shorter, in a directory that has `examples/` as a clone's root has it."""

import importlib
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree

import pytest

from oialr_hpo.runs import RunDirectory, State
from tests.docs.shown import ROOT, blocks

EXAMPLES = ROOT / "examples"
PROGRAMS = [*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.sbatch")]
COMMAND = re.compile(r"^#? {3,4}((?:python|sbatch|cp) .*?)(?: {2,}#.*)?$", re.MULTILINE)
LONGEST = 95
"""Lines of an example, which is to be read in two minutes."""


def commands(file: str) -> list[str]:
    """What the header of an example says."""
    return COMMAND.findall((EXAMPLES / file).read_text())


@pytest.fixture(scope="module", autouse=True)
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory that all run in."""
    root = tmp_path_factory.mktemp("clone")
    copytree(EXAMPLES, root / "examples")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(root)
        patched.setenv("PYTHONPATH", str(ROOT))
        yield root


def run(command: str, *further: str) -> None:
    """A command in this process, with further arguments."""
    python, script, *arguments = shlex.split(command)
    assert python == "python"
    if script == "-m":
        module, *arguments = arguments
        importlib.import_module(module).main([*arguments, *further])
        return
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", [script, *arguments, *further])
        runpy.run_path(script, run_name="__main__")


def run_shortly(command: str) -> None:
    """A search of two trials for an epoch, a training with one seed; anything else as it is."""
    searches = ["--trials", "2", "--jobs", "1", "--set", "training.epochs=1"]
    run(command, *(searches if ".search " in command else ["--seeds", "0"] if ".train " in command else []))


@pytest.fixture(scope="module")
def searched(clone: Path) -> RunDirectory:
    """What the search of tabular.py leaves."""
    run_shortly(commands("tabular.py")[0])
    return RunDirectory.open(clone / "runs" / "tabular")


def test_a_task_of_one_s_own(searched: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    for command in commands("tabular.py")[1:]:
        run_shortly(command)
    trials = searched.trials()
    assert [trial.state for trial in trials] == [State.COMPLETE] * 2
    assert trials[0].metrics["trainable_percent"] == 100 > trials[1].metrics["trainable_percent"]
    printed = capsys.readouterr().out
    assert "tabular-1.yaml" in printed and re.search(r"test split .* mae ", printed)


def test_a_loop_of_one_s_own(capsys: pytest.CaptureFixture[str]) -> None:
    for command in commands("own_loop.py"):
        run_shortly(command)
    trials = RunDirectory.open(Path("runs/own_loop")).trials()
    assert [trial.state for trial in trials] == [State.COMPLETE] * 2
    assert all(trial.metrics["trainable_percent"] < 100 for trial in trials)
    printed = capsys.readouterr().out
    assert "own_loop-1.yaml" in printed and re.search(r"test split, seeds 0 (.*\n){2}error +0\.", printed)


def test_a_language_model_learns_and_writes(capsys: pytest.CaptureFixture[str]) -> None:
    (command,) = commands("language_model.py")
    run(command.replace(" 600", " 30"))
    printed = capsys.readouterr().out
    bits, trained = zip(*re.findall(r"([\d.]+) bits per character +([\d.]+) % trained", printed), strict=True)
    assert len(bits) == 11 and float(bits[-1]) < float(bits[0]) - 1  # from 7, where all characters are alike
    assert trained[0] == "100.0" and float(trained[-1]) < 50
    assert "\n\nThe statement" in printed


def test_the_library_alone(capsys: pytest.CaptureFixture[str]) -> None:
    (command,) = commands("library_only.py")
    run(command)
    printed = capsys.readouterr().out
    assert printed.count("epoch ") == 10 and " 100.0 % of the dense" in printed
    assert re.search(r"Linear +256 x 256 +\d+\n", printed) and Path("runs/digits.safetensors").exists()


def test_a_callback_of_hugging_face_s_trainer(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers", reason="needs oialr_hpo[huggingface]: tests/integrations/run.sh")
    pytest.importorskip("accelerate", reason="needs oialr_hpo[huggingface]: tests/integrations/run.sh")
    (command,) = commands("huggingface_trainer.py")
    run(command.replace(" 12", " 1"))
    printed = capsys.readouterr().out
    (seen,) = re.findall(r"'eval_accuracy': '?([\d.]+)", printed)
    assert f"loaded again: accuracy {float(seen):.4f}" in printed


def test_an_array_of_seeds(clone: Path, tmp_path: Path) -> None:
    """Without Slurm, and of a search whose trials are made up: the real ones are searched above."""
    made_up = {"EXPERIMENT": "examples/own_loop.yaml", "OIALR_ENV": str(tmp_path / "env.sh")}
    (tmp_path / "env.sh").write_text(f'PATH="{Path(sys.executable).parent}:$PATH"\n')

    def job(index: int) -> str:
        options = ["--trials", "2", "--set", "objective=tests.objectives:every_metric"]
        variables = made_up | {"SLURM_ARRAY_TASK_ID": str(index)}
        script = ["bash", "examples/slurm_array.sbatch", *options]
        done = subprocess.run(script, env=os.environ | variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stderr

    for index in (0, 1):
        job(index)
        trials = RunDirectory.open(clone / "runs" / f"own_loop-seed{index}").trials()
        assert [(trial.state, trial.seed) for trial in trials] == [(State.COMPLETE, index + n) for n in (0, 1)]
    assert "all 2 trials have ended" in job(1)  # submitted again


def test_the_notebook(searched: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas")
    from matplotlib import pyplot

    monkeypatch.chdir("examples")  # as Jupyter does
    notebook = json.loads(Path("analysis.ipynb").read_text())
    told: dict[str, object] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), told)
    assert len(told["trials"]) == 2 == len(told["curves"])  # type: ignore[arg-type]
    assert len(pyplot.get_fignums()) == 2
    pyplot.close("all")


def test_what_is_committed_of_the_notebook_is_small() -> None:
    assert (EXAMPLES / "analysis.ipynb").stat().st_size < 120_000


def test_each_is_short_and_stands_with_its_commands_on_their_page() -> None:
    page = EXAMPLES / "README.md"
    shown = [line.split("  ")[0] for each in blocks(page) for line in each.text.splitlines() if line]
    assert sorted(shown) == sorted(command for file in PROGRAMS for command in commands(file.name))
    assert all(commands(file.name) and len(file.read_text().splitlines()) <= LONGEST for file in PROGRAMS)
    linked = {*re.findall(r"]\(([\w.]+)\)", page.read_text()), page.name}
    assert {file.name for file in EXAMPLES.iterdir() if file.is_file()} == linked
