"""One optimizer step: over one batch or several, in any precision, on one process or several."""

import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from oialr_hpo.experiment import Training
from oialr_hpo.tasks import Task
from oialr_hpo.training import devices
from oialr_hpo.training.data_parallel import Replicas


class Stepper:
    """Makes the optimizer steps of a training.

    Args:
        model: with the parameters; `trained` is the same, or what wraps it for several processes.

    Attributes:
        scaler: of the gradients in float16; it does nothing otherwise.
        waited: seconds spent waiting for batches, so far.
    """

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        trained: nn.Module,
        optimizer: torch.optim.Optimizer,
        settings: Training,
        device: torch.device,
        replicas: Replicas,
    ):
        self._task, self._model, self._trained, self._optimizer = task, model, trained, optimizer
        self._settings, self._device, self._replicas = settings, device, replicas
        self.scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "float16")
        self.waited = 0.0

    @property
    def stuck(self) -> bool:
        """Whether gradients were infinite in float16 although the loss was scaled down."""
        return self.scaler.get_scale() < 1

    def step(self, batches: Iterator[Any], count: int) -> tuple[Tensor, bool]:
        """Take `count` batches and make a step on the mean of their losses.

        Returns:
            that loss, and whether the step was made: in float16 one with infinite gradients is not.
        """
        total = torch.zeros((), device=self._device)
        for i in range(count):
            asked = time.perf_counter()
            batch, weight = self._replicas.share(next(batches))
            self.waited += time.perf_counter() - asked
            with self._replicas.apart(self._trained, i + 1 < count):
                with devices.autocast(self._device, self._settings.precision):
                    loss = weight * self._task.loss(self._trained, batch) / count
                self.scaler.scale(loss).backward()
            total += loss.detach()
        if self._settings.clip_grad_norm > 0:
            self.scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self._model.parameters(), self._settings.clip_grad_norm)
        scale = self.scaler.get_scale()
        self.scaler.step(self._optimizer)
        self.scaler.update()
        self._optimizer.zero_grad()
        return total, self.scaler.get_scale() >= scale


def make_average(model: nn.Module, settings: Training) -> AveragedModel | None:
    """The exponential average of a model's weights and buffers, where the experiment asks for it."""
    if settings.ema_decay == 0:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema_decay), use_buffers=True)
