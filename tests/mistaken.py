"""Tasks of a user, each with another mistake, for `tests.training.test_rehearsal`."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from oialr_hpo.tasks import Task, TaskSettings


class Open(TaskSettings):
    data: dict[str, Any] = {}
    model: dict[str, Any] = {}


class Right:
    """Two blobs; nothing is wrong with it."""

    Settings = Open
    validates = True
    steps_per_epoch = 4

    def __init__(self, settings: Open, *, batch_size: int, seed: int, device: Any, data_dir: Any, split: str) -> None:
        self.split = split
        self.x = torch.randn(64, 4, generator=torch.Generator().manual_seed(seed))
        self.y = (self.x[:, 0] > 0).long()

    def build_model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))

    def train_batches(self, epoch: int) -> Iterator[Any]:
        return ((self.x[i::4], self.y[i::4]) for i in range(4))

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    def evaluate(self, model: nn.Module, split: str) -> dict[str, Any]:
        wrong = model(self.x).argmax(1) != self.y
        return {"error": wrong.float().mean().item()}


def function() -> None:
    pass


class NoSettings:
    pass


class OtherSettings(Right):
    Settings = dict  # type: ignore[assignment]


class SettingsThatRaise(Right):
    class Settings(Open):
        def model_post_init(self, context: Any) -> None:
            raise KeyError("lost")


class DataThatRaises(Right):
    class Settings(Open):
        def prepare_data(self, data_dir: Any) -> None:
            raise RuntimeError("no disk")


class NoEvaluate(Right):
    evaluate = None  # type: ignore[assignment]


class OnlyTheProtocol(Task):
    Settings = Open


class OtherConstructor(Right):
    def __init__(self, settings: Open, batch_size: int):
        pass


class OtherArguments(Right):
    def train_batches(self) -> Iterator[Any]:  # type: ignore[override]
        return super().train_batches(1)


class NoStepsPerEpoch(Right):
    steps_per_epoch = property()  # type: ignore[assignment]


class NoSteps(Right):
    steps_per_epoch = 0


class NoBatches(Right):
    def train_batches(self, epoch: int) -> Iterator[Any]:
        return iter(())


class NoNetwork(Right):
    def build_model(self) -> Any:
        return None


class Untrainable(Right):
    def build_model(self) -> nn.Module:
        return nn.Flatten()


class Exits(Right):
    def build_model(self) -> nn.Module:
        raise SystemExit(3)


class VectorLoss(Right):
    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        return model(batch[0]).sum(1)


class DetachedLoss(Right):
    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        return super().loss(model, batch).detach()


class LossIsNaN(Right):
    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        return super().loss(model, batch) * float("nan")


class WrongShapes(Right):
    def build_model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(5, 2))


class TooLarge(Right):
    def build_model(self) -> nn.Module:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


class MetricsAreText(Right):
    def evaluate(self, model: nn.Module, split: str) -> dict[str, Any]:
        return {"error": "low"}


class EvaluationRaises(Right):
    def evaluate(self, model: nn.Module, split: str) -> dict[str, Any]:
        raise ZeroDivisionError("integer division\nby zero")


class Patient(Right):
    """Its evaluation would take ten minutes, and it goes on whatever is raised."""

    def evaluate(self, model: nn.Module, split: str) -> dict[str, Any]:
        for _ in range(6000):
            try:
                model(self.x)
                time.sleep(0.1)
            except Exception:
                pass
        return {}


class OtherTestMetrics(Right):
    """Its test split has other metrics."""

    def evaluate(self, model: nn.Module, split: str) -> dict[str, Any]:
        return {"error": 0.5} if split == "validation" else {"test_error": 0.5}


class Hangs(Right):
    def build_model(self) -> nn.Module:
        time.sleep(600)
        return super().build_model()


class Dies(Right):
    def build_model(self) -> nn.Module:
        os.kill(os.getpid(), signal.SIGSEGV)
        return super().build_model()


class Tells(Right):
    """In which process it is, on paper too."""

    def evaluate(self, model: nn.Module, split: str) -> dict[str, Any]:
        print(f"evaluated in {os.getpid()}", flush=True)
        return super().evaluate(model, split) | {"process": os.getpid()}
