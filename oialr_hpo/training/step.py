"""The optimizer steps of a training: over one batch or several, in any precision, on one process or several."""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from oialr_hpo.experiment import Training
from oialr_hpo.methods import Method
from oialr_hpo.training import devices
from oialr_hpo.training.compilation import compiling
from oialr_hpo.training.data_parallel import Replicas
from oialr_hpo.training.step_time import StepTime


class Stepper:
    """Lets a method make the optimizer steps of a training.

    Args:
        model: the network itself; `method.loop.model` is the same, or what wraps it for several processes.
        method: with the network and its optimizer.

    Attributes:
        compiled: the context in which losses are computed.
        scaler: of the gradients in float16; it does nothing otherwise.
        steps: made so far.
        waited: seconds spent waiting for batches, so far.
        time: of the steps, without that.
    """

    def __init__(self, model: nn.Module, method: Method, settings: Training, device: torch.device, replicas: Replicas):
        self.model, self.method, self.settings = model, method, settings
        self.device, self.replicas = device, replicas
        self.compiled = compiling(model, device, settings.compile)
        self.scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "float16")
        self.steps, self.waited, self.time = 0, 0.0, StepTime(device)

    @property
    def stuck(self) -> bool:
        """Whether gradients were infinite in float16 although the loss was scaled down."""
        return self.scaler.get_scale() < 1

    def epoch(
        self, batches: Iterator[Any], count: int, set_rate: Callable[[int], None], average: AveragedModel | None
    ) -> float:
        """Make the steps of `count` batches.

        Args:
            set_rate: sets the learning rate of step 0, 1, ...
            average: of the weights, updated after every step.

        Returns:
            their mean loss, over all processes; of steps that were not made, only finite ones count.
        """
        self.model.train()
        loss_sum, losses, joined = torch.zeros((), device=self.device), 0, self.settings.accumulation_steps
        self.time.go()
        for begun in range(0, count, joined):
            set_rate(self.steps)
            loss, made = self.step(batches, min(joined, count - begun))
            if made or loss.isfinite():
                loss_sum += loss
                losses += 1
            if made and average:
                average.update_parameters(self.model)
        mean = self.replicas.mean(loss_sum) / losses if losses else math.nan
        self.time.stop()
        self.time.settle(math.ceil(count / joined))
        return mean

    def step(self, batches: Iterator[Any], count: int) -> tuple[Tensor, bool]:
        """Take `count` batches and make a step on the mean of their losses.

        Returns:
            that loss, and whether the step was made: in float16 one with infinite gradients is not.
        """
        step = _Step(self, batches, count)
        self.method.make_step(step)
        step.clear()
        if step.loss is None:
            raise TypeError(f"{type(self.method).__name__}.make_step never calls step.backward()")
        self.steps += step.made
        return step.loss, step.made


class _Step:
    """One step in the making: an `oialr_hpo.methods.Step`."""

    def __init__(self, stepper: Stepper, batches: Iterator[Any], count: int):
        self._all, self._batches, self._count = stepper, batches, count
        self._taken: list[tuple[Any, float]] = []
        self._filled, self.made = False, True
        self.loss: Tensor | None = None

    def backward(self) -> None:
        self.clear()
        model, total = self._all.method.loop.model, torch.zeros((), device=self._all.device)
        for i in range(self._count):
            batch, weight = self._batch(i)
            with self._all.replicas.apart(model, i + 1 < self._count):
                with devices.autocast(self._all.device, self._all.settings.precision), self._all.compiled():
                    loss = weight * self._all.method.loss(model, batch) / self._count
                self._all.scaler.scale(loss).backward()
            total += loss.detach()
        self._filled = True
        self._all.scaler.unscale_(self._all.method.loop.optimizer)
        self.loss = total if self.loss is None else self.loss

    def update(self) -> bool:
        scaler, optimizer = self._all.scaler, self._all.method.loop.optimizer
        if self._all.settings.clip_grad_norm > 0:
            nn.utils.clip_grad_norm_(self._all.model.parameters(), self._all.settings.clip_grad_norm)
        scale = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        self._filled = False
        made = scaler.get_scale() >= scale
        self.made &= made
        return made

    def clear(self) -> None:
        """Drop gradients that were not used."""
        if self._filled:
            self._all.scaler.update()
            self._all.method.loop.optimizer.zero_grad()
            self._filled = False

    def _batch(self, i: int) -> tuple[Any, float]:
        """This process's part of a batch, and its weight."""
        if i == len(self._taken):
            self._all.time.stop()
            asked = time.perf_counter()
            self._taken.append(self._all.replicas.share(next(self._batches)))
            self._all.waited += time.perf_counter() - asked
            self._all.time.go()
        return self._taken[i]


def make_average(model: nn.Module, settings: Training) -> AveragedModel | None:
    """The exponential average of a model's weights and buffers, where the experiment asks for it."""
    if settings.ema_decay == 0:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema_decay), use_buffers=True)
