"""What the disk or the machine does to a trial is not the trial's failure; what was mended runs again."""

import errno
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
import torch

from oialr_hpo import search, train
from oialr_hpo.engines.signals import StopRequest
from oialr_hpo.experiment import Experiment, load
from oialr_hpo.methods import Loop
from oialr_hpo.methods.dense import Dense
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.trial import State
from oialr_hpo.status import status, summary
from oialr_hpo.training.checkpoint import Checkpoint
from oialr_hpo.training.faults import Fault, Outcome, death, explain
from oialr_hpo.training.weights import save_weights
from tests.blobs import EXPERIMENT, Slow
from tests.engines.test_propulate import SCRIPT, mpirun, needs_mpi
from tests.engines.test_search import run
from tests.objectives import MENDED, disk


def chained(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        *((disk(code), Outcome.FAULT) for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE)),
        (chained(RuntimeError("cannot write"), disk(errno.ENOSPC)), Outcome.FAULT),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), Outcome.FAULT),
        (MemoryError(), Outcome.OUT_OF_MEMORY),
        (disk(errno.ENOMEM), Outcome.OUT_OF_MEMORY),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"), Outcome.OUT_OF_MEMORY),
        (FileNotFoundError(errno.ENOENT, "No such file", "data"), Outcome.FAILED),
        (PermissionError(errno.EACCES, "Permission denied", "data"), Outcome.FAILED),
        (ValueError("no"), Outcome.FAILED),
        (KeyError("error"), Outcome.FAILED),
    ],
)
def test_whose_fault_an_exception_is(error: BaseException, outcome: Outcome) -> None:
    assert explain(error)[0] is outcome


def test_whose_fault_a_death_is() -> None:
    assert death(7) == (Outcome.FAILED, "the training process ended with exit status 7")
    assert death(-signal.SIGSEGV) == (Outcome.FAILED, "the training process was killed by SIGSEGV")
    assert death(-signal.SIGTERM) == (Outcome.FAULT, "the training process was killed by SIGTERM")
    assert death(-signal.SIGKILL)[0] is Outcome.FAULT
    assert death(-63)[0] is Outcome.FAILED


FRAIL = "tests.objectives:frail"
ENDS = [State.COMPLETE, State.INTERRUPTED, State.FAILED, State.OUT_OF_MEMORY] + [
    *(State.COMPLETE, State.INTERRUPTED, State.FAILED, State.COMPLETE)
]


def test_trials_that_the_machine_failed_run_again_and_those_that_failed_where_that_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(tmp_path, "trials=8", objective=FRAIL)
    before = first.trials()
    assert [trial.state for trial in before] == ENDS
    assert before[1].reason == "OSError: [Errno 28] No space left on device"
    assert status(first)["trials"] == {
        **{"running": 0, "complete": 3, "paused": 0, "pruned": 0, "failed": 2, "out_of_memory": 1, "interrupted": 2}
    }
    lines = summary(first).splitlines()
    assert [line for line in lines if line.startswith("  ") and (" x: " in line or "--retry" in line)] == [
        "  failed 2 x: ValueError: not mended",
        "  out of memory 1 x: MemoryError",
        "  interrupted 1 x: OSError: [Errno 28] No space left on device",
        "  interrupted 1 x: the training process was killed by SIGKILL, as the system does where memory runs out",
        "  where that is mended, --resume --retry failed --retry out_of_memory runs these again",
    ]
    monkeypatch.setenv(MENDED, "1")
    resumed = run(tmp_path, "trials=8", objective=FRAIL, resume=True).trials()
    assert [trial.state for trial in resumed] == [
        State.COMPLETE if state is State.INTERRUPTED else state for state in ENDS
    ]
    assert [resumed[i] for i in (0, 2, 3, 4, 6, 7)] == [before[i] for i in (0, 2, 3, 4, 6, 7)]
    retried = run(tmp_path, "trials=8", objective=FRAIL, resume=True, retry=[State.FAILED, State.OUT_OF_MEMORY])
    trials = retried.trials()
    assert {trial.state for trial in trials} == {State.COMPLETE} and {trial.reason for trial in trials} == {None}
    assert [(t.number, t.seed, t.settings, t.role) for t in trials] == [
        (t.number, t.seed, t.settings, t.role) for t in before
    ]
    assert all(len(trial.epochs) == 2 for trial in trials)


def test_a_retry_needs_a_search_to_resume(tmp_path: Path) -> None:
    with pytest.raises(search.ImpossibleChoice, match="add --resume"):
        run(tmp_path / "run", retry=[State.FAILED])
    assert not (tmp_path / "run").exists()


def test_a_machine_that_fails_every_trial_ends_the_search(tmp_path: Path) -> None:
    trials = run(tmp_path, "trials=100", objective="tests.objectives:full").trials()
    assert {trial.state for trial in trials} == {State.INTERRUPTED} and len(trials) < 12


@needs_mpi
def test_the_same_over_mpi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert mpirun(2, "-c", SCRIPT, str(tmp_path), FRAIL, "", "trials=8").returncode == 0
    assert [trial.state for trial in RunDirectory.open(tmp_path).trials()] == ENDS
    monkeypatch.setenv(MENDED, "1")
    states = "[search.State.FAILED, search.State.OUT_OF_MEMORY]"
    retrying = SCRIPT.replace("resume=resume", f"retry={states}, resume=resume")
    done = mpirun(2, "-c", retrying, str(tmp_path), FRAIL, "resume", "trials=8")
    assert done.returncode == 0, done.stderr
    assert {trial.state for trial in RunDirectory.open(tmp_path).trials()} == {State.COMPLETE}


@contextmanager
def full_disk() -> Iterator[None]:
    """Files larger than 2 kB cannot be written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def checkpoint(path: Path, model: torch.nn.Module) -> Checkpoint:
    optimizer = torch.optim.AdamW(model.parameters())
    loop = Loop(model, optimizer, lambda model, batch: model(batch).sum(), 1, 1, [], iter)
    return Checkpoint(path, model, optimizer, Dense(Dense.Settings(), loop))


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = torch.nn.Linear(32, 32)
    kept = checkpoint(tmp_path / "run" / "trial.pt", model)
    with full_disk(), pytest.raises(Fault) as raised:
        kept.save({"epoch": 1})
    assert str(raised.value) == f"the checkpoint {kept.path} cannot be written: File too large"
    assert not list((tmp_path / "run").iterdir())
    with full_disk():
        kept.save({"epoch": 1}, needed=False)
    assert "cannot be written: File too large; the training goes on" in capsys.readouterr().err
    kept.save({"epoch": 1})
    with full_disk(), pytest.raises(Fault):
        kept.save({"epoch": 2})
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["trial.pt"]
    assert kept.load() == {"epoch": 1}
    with full_disk(), pytest.raises(Fault, match="the weights .* cannot be written"):
        save_weights(model, tmp_path / "weights" / "network.safetensors", {})
    assert not list((tmp_path / "weights").iterdir())


@pytest.mark.parametrize("left", [0, 100, 3000, -1])
def test_a_damaged_checkpoint_begins_anew(tmp_path: Path, left: int, capsys: pytest.CaptureFixture[str]) -> None:
    model = torch.nn.Linear(32, 32)
    kept = checkpoint(tmp_path / "trial.pt", model)
    kept.save({"epoch": 1})
    whole = (tmp_path / "trial.pt").read_bytes()
    (tmp_path / "trial.pt").write_bytes(whole[:left] if left >= 0 else b"x" * len(whole))
    assert kept.load() is None
    assert "is damaged: the training begins anew" in capsys.readouterr().err


def slow(path: Path) -> Experiment:
    path.with_suffix(".yaml").write_text(EXPERIMENT.replace("Blobs", "Slow"))
    return load(str(path.with_suffix(".yaml")), ["training.epochs=400", "trials=2"])


def stopped_after_an_epoch(run: RunDirectory) -> StopRequest:
    stop, before = StopRequest(), sum(len(trial.epochs) for trial in run.trials())

    def wait() -> None:
        while not (run.used and sum(len(trial.epochs) for trial in run.trials()) > before):
            time.sleep(0.02)
        stop.received = "test"

    threading.Thread(target=wait, daemon=True).start()
    return stop


def test_a_trial_whose_checkpoint_cannot_be_written_is_interrupted(tmp_path: Path) -> None:
    """A file stands where the directory of the checkpoints is to be."""
    out, experiment = RunDirectory(tmp_path / "run"), slow(tmp_path / "slow")
    out.path.mkdir()
    (out.path / "checkpoints").write_text("")
    trials = search.run(experiment, out=out.path, stop=stopped_after_an_epoch(out)).trials()
    assert trials[0].state is State.INTERRUPTED
    assert str(trials[0].reason).endswith("checkpoints/trial-00000.pt cannot be written: File exists")
    (out.path / "checkpoints").unlink()
    again = search.run(experiment, out=out.path, stop=stopped_after_an_epoch(out), resume=True).trials()
    assert (again[0].state, again[0].reason) == (State.INTERRUPTED, None)
    assert [path.name for path in (out.path / "checkpoints").iterdir()] == ["trial-00000.pt"]


def evaluate_after_the_rehearsal(error: Exception) -> Callable[..., dict[str, float]]:
    calls = count()

    def evaluate(*_: object) -> dict[str, float]:
        if next(calls) == 0:
            return {"error": 0.5}
        raise error

    return evaluate


def test_train_interrupts_and_retries_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slow(tmp_path / "slow")
    arguments = [str(tmp_path / "slow.yaml"), "--set", "training.epochs=2", "--out", str(tmp_path / "run")]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Slow, "evaluate", evaluate_after_the_rehearsal(disk(errno.ENOSPC)))
        with pytest.raises(SystemExit) as ended:
            train.main(arguments)
    assert ended.value.code == 75 and "seed 0 interrupted: OSError: [Errno 28] No space" in capsys.readouterr().err
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Slow, "evaluate", lambda *_: None)
        with pytest.raises(SystemExit) as ended:
            train.main([*arguments, "--resume"])
    assert ended.value.code == 1
    assert "seed 0 failed: evaluate returned None, not a dict of numbers" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        train.main([*arguments, "--resume"])
    assert ended.value.code == 1
    train.main([*arguments, "--resume", "--retry", "failed"])
    (trial,) = RunDirectory.open(tmp_path / "run").trials()
    assert (trial.state, trial.reason, len(trial.epochs)) == (State.COMPLETE, None, 2)
