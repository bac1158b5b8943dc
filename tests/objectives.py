"""Objectives without a network, for tests of the engines: they run where the trials of a search run.

Every process of theirs imports this file: nothing here imports torch.
"""

import errno
import math
import os
import random
import signal
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from oialr_hpo.experiment import Experiment
from oialr_hpo.training.faults import written
from oialr_hpo.training.replica import Replica


def bowl(experiment: Experiment, *, seed: int, **_: Any) -> Iterator[dict[str, float]]:
    """A bowl with its lowest point at cutoff 0.1 and delay 0.3; three records."""
    depth = math.log10(experiment.oialr.cutoff / 0.1) ** 2 + (experiment.oialr.delay - 0.3) ** 2
    for epoch in (1, 2, 3):
        yield {"epoch": epoch, "error": depth + 1 / epoch - 1 / 3, "trainable_percent": 10.0}


def noisy_bowl(experiment: Experiment, *, seed: int, **_: Any) -> Iterator[dict[str, float]]:
    """The bowl at its third record, with noise by the seed."""
    noise = 0.05 * random.Random(seed).random()
    yield {"epoch": 1, "error": [*bowl(experiment, seed=seed)][-1]["error"] + noise, "trainable_percent": 10.0}


def every_metric(experiment: Experiment, *, seed: int, **_: Any) -> Iterator[dict[str, Any]]:
    """What a small training could have measured; two records."""
    full = {"first": 16, "second": 10}
    for epoch in (1, 2):
        error, ranks = 0.5 / (seed + 1), {"full_ranks": full} if epoch == 1 else {"ranks": {"first": 4, "second": 10}}
        metrics = {"error": error, "mse": error, "top1": 50.0 + seed, "trainable_percent": 10.0 + seed}
        yield {"epoch": epoch, **metrics, **ranks}


def by_method(experiment: Experiment, **_: Any) -> Iterator[dict[str, float]]:
    """Dense reaches 90 % and a bit by its seed, OIALR two points less, RigL five."""
    top1 = {"dense": 90.0, "oialr": 88.0, "rigl": 85.0}[experiment.method] + experiment.seed % 5
    yield {"epoch": 1, "error": 1 - top1 / 100, "top1": top1, "total_percent": 20.0, "trainable_percent": 20.0}


def slow_by_method(experiment: Experiment, **given: Any) -> Iterator[dict[str, float]]:
    """The same, a second later."""
    time.sleep(1.0)
    yield from by_method(experiment, **given)


def uneven(experiment: Experiment, *, seed: int, replica: Replica, **_: Any) -> Iterator[dict[str, float]]:
    """Of six trials one raises, one loses its process and one hangs, each on the second of its ranks only."""
    yield {"error": 0.5, "trainable_percent": 10.0}
    second = replica.rank == 1
    if seed % 6 == 1 and second:
        raise ValueError("only here")
    if seed % 6 == 3 and second:
        os._exit(7)
    if seed % 6 in (1, 3) or (seed % 6 == 5 and second):
        time.sleep(600)
    yield {"error": experiment.oialr.cutoff, "trainable_percent": 10.0}


def trade_off(experiment: Experiment, **_: Any) -> Iterator[dict[str, float]]:
    """The higher the cutoff, the smaller the network and the larger the error."""
    cutoff = experiment.oialr.cutoff
    yield {"error": cutoff + abs(experiment.oialr.delay - 0.3), "trainable_percent": 1 / cutoff}


def hazards(experiment: Experiment, *, seed: int, **_: Any) -> Iterator[dict[str, float]]:
    """A bowl in which a third of the trials end badly, each in another way."""
    yield {"epoch": 1, "error": 0.5, "trainable_percent": 10.0}
    if seed % 18 == 0:
        raise RuntimeError("the trial raised\non two lines")
    if seed % 18 == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    if seed % 18 == 6:
        os._exit(7)
    if seed % 18 == 9:
        raise SystemExit(3)
    time.sleep(0.005)
    error = {12: math.nan, 15: math.inf}.get(seed % 18, experiment.oialr.cutoff)
    yield {"epoch": 2, "error": error, "trainable_percent": 10.0}


def injected(experiment: Experiment, *, seed: int, **_: Any) -> Iterator[dict[str, float]]:
    """A third of the trials end badly; most of these raise or yield no number, some lose their process, a few hang."""
    yield {"epoch": 1, "error": 0.5, "trainable_percent": 10.0}
    kind = seed // 3 % 12 if seed % 3 == 0 else None
    if kind in (4, 5, 6) and seed % 324 >= 36:
        kind = 0
    if kind == 6:
        time.sleep(600)
    if kind in (0, 1, 2):
        raise ValueError("injected")
    if kind == 3:
        raise SystemExit(3)
    if kind == 4:
        os._exit(7)
    if kind == 5:
        os.kill(os.getpid(), signal.SIGSEGV)
    error = experiment.oialr.cutoff if kind is None else math.nan if kind < 10 else math.inf
    yield {"epoch": 2, "error": error, "trainable_percent": 10.0}


def quick(experiment: Experiment, *, seed: int, **_: Any) -> Iterator[dict[str, float]]:
    """Three epochs of some hundredths of a second; the score tells the seed and the settings."""
    for epoch in (1, 2, 3):
        time.sleep(0.01 * (1 + seed % 5))
        yield {"epoch": epoch, "error": seed + experiment.oialr.cutoff, "trainable_percent": 10.0}


def kept(
    experiment: Experiment, *, seed: int, checkpoint: Path, replica: Replica | None = None, **_: Any
) -> Generator[dict[str, float], Any, None]:
    """Four epochs, of which the first three say nothing of the last; stopped, it keeps how far it is."""
    errors = [*3 * [seed * 7 % 16 / 16], float(seed * 11 % 16)]
    yield from _kept(errors, 0.03, checkpoint, replica)


def patient(
    experiment: Experiment, *, checkpoint: Path, replica: Replica | None = None, **_: Any
) -> Generator[dict[str, float], Any, None]:
    """Four hundred epochs of a tenth of a second; stopped, it keeps how far it is."""
    yield from _kept(400 * [0.5], 0.1, checkpoint, replica)


def _kept(
    errors: list[float], pause: float, checkpoint: Path, replica: Replica | None
) -> Generator[dict[str, float], Any, None]:
    done = int(checkpoint.read_text()) if checkpoint.exists() else 0
    for epoch in range(done + 1, len(errors) + 1):
        time.sleep(pause)
        if (yield {"epoch": epoch, "error": errors[epoch - 1], "trainable_percent": 10.0}) is not None:
            if replica is None or replica.rank == 0:
                with written(checkpoint, "the checkpoint") as partial:
                    partial.write_text(str(epoch))
            return


def slow(experiment: Experiment, **_: Any) -> Iterator[dict[str, float]]:
    """Sixty epochs of half a second; one, if the file that the environment names is there."""
    for _ in range(60):
        time.sleep(0.5)
        yield {"error": 0.5, "trainable_percent": 10.0}
        if os.path.exists(os.environ.get("RELEASE", "")):
            return


def naps(experiment: Experiment, **_: Any) -> Iterator[dict[str, float]]:
    """One epoch of two and a half seconds."""
    time.sleep(2.5)
    yield {"error": 0.5, "trainable_percent": 10.0}


def held(experiment: Experiment, **_: Any) -> Iterator[dict[str, float]]:
    """Two epochs, the second not before the file that the environment names is there."""
    yield {"error": 0.5, "trainable_percent": 10.0}
    while not os.path.exists(os.environ["RELEASE"]):
        time.sleep(0.05)
    yield {"error": 0.5, "trainable_percent": 10.0}


def pids(experiment: Experiment, **_: Any) -> Iterator[dict[str, float]]:
    """Tells which process trains, then hangs."""
    yield {"error": 0.5, "trainable_percent": 10.0, "process": os.getpid()}
    time.sleep(600)


def hangs(experiment: Experiment, *, seed: int, **_: Any) -> Iterator[dict[str, float]]:
    """Every second trial never ends."""
    if seed % 2 == 0:
        time.sleep(600)
    yield {"error": 0.5, "trainable_percent": 10.0}


def fails(experiment: Experiment, **_: Any) -> Iterator[dict[str, float]]:
    """Before anything is trained."""
    raise ValueError("always")


MENDED = "OIALR_TEST_MENDED"


def disk(code: int) -> OSError:
    return OSError(code, os.strerror(code))


def frail(experiment: Experiment, *, seed: int, **_: Any) -> Iterator[dict[str, float]]:
    """Until it is mended, the machine fails one trial in four, and the trial's code another."""
    yield {"error": 0.5}
    if MENDED not in os.environ:
        if seed % 8 == 1:
            raise disk(errno.ENOSPC)
        if seed % 8 == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        if seed % 4 == 2:
            raise ValueError("not mended")
        if seed % 8 == 3:
            raise MemoryError
    yield {"error": seed + experiment.oialr.cutoff}


def full(experiment: Experiment, **_: Any) -> Iterator[dict[str, float]]:
    """No disk takes what it writes."""
    yield {"error": 0.5}
    raise disk(errno.ENOSPC)


def greedy(experiment: Experiment, **_: Any) -> Iterator[dict[str, float]]:
    """Wants more memory than there is."""
    yield {"error": float(len(bytearray(2**62))), "trainable_percent": 10.0}


LEAK: list[bytearray] = []


def leaks(experiment: Experiment, *, seed: int, **_: Any) -> Iterator[dict[str, float]]:
    """Keeps 1.1 GB for good in its third trial."""
    if seed == 2:
        LEAK.append(bytearray(b"x") * 1_100_000_000)
    yield {"error": 0.5, "trainable_percent": 10.0, "process": os.getpid()}


def eventful(experiment: Experiment, *, seed: int, **_: Any) -> Iterator[dict[str, Any]]:
    """All that a report shows: a change-over, falling ranks, trials that are worth stopping, and some that fail."""
    dense = experiment.method == "dense"
    delay = 13 if dense else 1 + round(experiment.oialr.delay * 12)
    for epoch in range(1, 13):
        if seed % 7 == 6 and epoch == 3:
            raise MemoryError("no room") if seed % 2 else RuntimeError("<b>boom</b> & </script>")
        share = 100.0 if epoch < delay else max(5.0, 60 * (1 - experiment.oialr.cutoff) ** epoch)
        ranks = {} if epoch < delay else {f"blocks.{i}": max(1, round(share * (i + 1) / 10)) for i in range(6)}
        error = 1 / epoch + abs(math.log10(experiment.schedule.lr / 5e-3)) / 2
        yield {
            "epoch": epoch, "step": 5 * epoch, "lr": experiment.schedule.lr, "error": error,
            "total_percent": 1.5 * share, "trainable_percent": share, "ranks": ranks,
        }  # fmt: skip


def noisy(experiment: Experiment, **_: Any) -> Iterator[dict[str, float]]:
    """An error that only the experiment's own seed changes."""
    yield {"epoch": 1, "error": 0.2 + 0.01 * (experiment.seed % 3), "total_percent": 90.0, "trainable_percent": 30.0}


def lucky(experiment: Experiment, *, seed: int, **_: Any) -> Iterator[dict[str, float]]:
    """An error that the seed changes more than the settings do."""
    yield {"epoch": 1, "error": 0.1 * experiment.oialr.cutoff + 0.05 * (3 * seed % 7), "trainable_percent": 30.0}


def rewarding(experiment: Experiment, **arguments: Any) -> Iterator[dict[str, float]]:
    """The bowl of `bowl`, turned round: its highest point is the best."""
    for record in bowl(experiment, **arguments):
        yield record | {"reward": -record["error"]}


def prepares(experiment: Experiment, **_: Any) -> Iterator[dict[str, float]]:
    """Sets up for half a second, then trains for two epochs of a hundredth."""
    began = time.perf_counter()
    time.sleep(0.5)
    ready = time.perf_counter()
    for epoch in (1, 2):
        time.sleep(0.01)
        times = {"seconds": time.perf_counter() - ready, "setup_seconds": ready - began}
        yield {"epoch": epoch, "error": experiment.oialr.cutoff, "trainable_percent": 10.0} | times


def beyond_numbers(experiment: Experiment, *, seed: int, **_: Any) -> Iterator[dict[str, float]]:
    """A bowl whose other metrics are no finite numbers in the last epoch, nor is the trainable share in the first."""
    for record in bowl(experiment, seed=seed):
        last = record["epoch"] == 3
        yield record | {
            "trainable_percent": math.nan if record["epoch"] == 1 else 10.0,
            "total_percent": math.nan if last else 20.0,
            "loss": math.inf if last else 1.0,
            "error": record["error"],
        }


def leaves_a_file(
    experiment: Experiment, *, seed: int, weights: Path | None = None, **_: Any
) -> Iterator[dict[str, Any]]:
    """In the place of a trained network its seed; the files beside it are counted. The better, the later it began."""
    kept = len(list(weights.parent.glob("*"))) if weights and weights.parent.exists() else 0
    yield {"error": 1 / (seed + 1), "trainable_percent": 10.0, "kept": kept}
    if weights:
        weights.parent.mkdir(exist_ok=True)
        weights.write_text(str(seed))


def of_the_old_arguments(
    experiment: Experiment, seed: int, worker: int, threads: int, data_dir: Path | None, checkpoint: Path
) -> Iterator[dict[str, float]]:
    """Takes no weights."""
    yield {"error": 1 / (seed + 1), "trainable_percent": 10.0}


def diverging(experiment: Experiment, *, seed: int, **_: Any) -> Iterator[dict[str, float]]:
    """Eight epochs without a finite error; in every third trial the first ones had one."""
    for epoch in range(1, 9):
        error = math.inf if seed % 2 else math.nan
        yield {"error": 0.5 if seed % 3 == 0 and epoch < 4 else error, "trainable_percent": 10.0}
