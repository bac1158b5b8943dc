"""Whatever is in the files that a command reads, it works, or says in one line what is wrong and writes nothing."""

import importlib
import io
import shutil
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from oialr_hpo import export, search
from tests.damage import BYTES, SETTINGS, Damage

CHANGES = ["trials=4", "early_stopping.enabled=false"]
OPTIONS = [part for change in CHANGES for part in ("--set", change)]
ON_RUNS = {
    "status": ["RUN"],
    "status ": ["RUN", "--json"],
    "status  ": ["RUN", "--csv"],
    "export": ["RUN", "--top", "9", "--out", "OUT"],
    "figures": ["RUN", "--out", "OUT"],
    "report.__main__": ["RUN", "--out", "OUT"],
    "report.__main__ ": ["RUN", "--optuna", "OUT.log"],
    "search": ["vit_digits", *OPTIONS, "--resume", "--out", "RUN"],
    "search ": ["vit_digits", "--start-from", "RUN", "--out", "OUT"],
    "benchmark.__main__": ["stopping", "RUN"],
}
ON_FILES = {
    "search": ["FILE", "--out", "OUT"],
    "search ": ["vit_digits", "--start-from", "FILE", "--out", "OUT"],
    "train": ["FILE", "--out", "OUT"],
    "train ": ["FILE", "--method", "untuned", "--out", "OUT"],
    "check": ["FILE", "--out", "OUT"],
    "reproduce": ["FILE", "--out", "OUT"],
    "utilization.__main__": ["FILE", "--out", "OUT"],
    "export": ["RUN", "--top", "3"],
}
FEW = settings(
    max_examples=20,
    phases=[Phase.generate],  # to make a case smaller takes long
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class ReadAll(Exception):
    """The command has read its files and would begin to work."""


def begin(*_: object, **__: object) -> None:
    raise ReadAll


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an export of its trials."""
    run = search.run(
        "vit_digits",
        changes=CHANGES,
        out=tmp_path_factory.mktemp("original") / "run",
        objective="tests.objectives:bowl",
    )
    export.export(run, 3)
    return run.path


@pytest.fixture(autouse=True)
def only_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    for work in (
        *("engines.named.optuna.run", "engines.preflight._carried_out", "training.rehearsal.rehearse", "train.repeat"),
        *("reproduce.Runner.measure", "utilization.images.image_task", "engines.staging.stage"),
    ):
        monkeypatch.setattr(f"oialr_hpo.{work}", begin)


def attempt(module: str, arguments: list[str], directory: Path) -> None:
    """Run a command, which may work or say a mistake."""
    words = {"RUN": "run", "FILE": "run/best/run-1.yaml", "OUT": "out", "OUT.log": "out.log"}
    given = [str(directory / words[word]) if word in words else word for word in arguments]
    errors = io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(errors):
        try:
            importlib.import_module(f"oialr_hpo.{module.strip()}").main(given)
            return
        except ReadAll:
            return
        except SystemExit as ended:
            status = ended.code
    if module == "check":
        assert status == 1  # it lists all that is wrong
        return
    *warnings, line = errors.getvalue().splitlines()
    assert status == 2 and line.startswith("error: ") and line.isprintable() and len(line) <= 300
    assert not any("Traceback" in warning for warning in warnings)
    assert not (directory / "out").exists() and not (directory / "out.log").exists()


@pytest.mark.parametrize("name", ["experiment.yaml", "environment.yaml", "trials/rank-0000.jsonl", "lock"])
@FEW
@given(data=st.data())
def test_a_damaged_run_directory(name: str, original: Path, tmp_path: Path, data: st.DataObject) -> None:
    damage: Damage = data.draw(BYTES if name == "lock" else SETTINGS)
    module, arguments = data.draw(st.sampled_from(list(ON_RUNS.items())))
    with_damage(original, tmp_path, name, damage)
    attempt(module, arguments, tmp_path)


@FEW
@given(damage=SETTINGS, command=st.sampled_from(list(ON_FILES.items())))
def test_a_damaged_experiment_file(
    original: Path, tmp_path: Path, damage: Damage, command: tuple[str, list[str]]
) -> None:
    with_damage(original, tmp_path, "best/run-1.yaml", damage)
    attempt(*command, tmp_path)


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
@FEW
@given(damage=BYTES)
def test_damaged_weights(suffix: str, tmp_path: Path, damage: Damage) -> None:
    from safetensors.torch import save_file

    from oialr_hpo.utilization.weights import CheckpointError, read_weights

    file = tmp_path / f"weights.{suffix}"
    remove(file)
    (save_file if suffix == "safetensors" else torch.save)({"a": torch.ones(3)}, file)
    damage(file)
    try:
        assert set(map(type, read_weights(file).values())) <= {torch.Tensor}
    except Exception as error:
        assert isinstance(error, CheckpointError) or type(error).__name__ == "Mistake"


def with_damage(original: Path, directory: Path, name: str, damage: Damage) -> None:
    for place in ("run", "out", "out.log"):
        remove(directory / place)
    shutil.copytree(original, directory / "run")
    damage(directory / "run" / name)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
