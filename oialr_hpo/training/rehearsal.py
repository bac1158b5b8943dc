"""A training in small: what the settings of an experiment get wrong shows in one step and one evaluation."""

import inspect
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import nn

from oialr_hpo.experiment import Experiment
from oialr_hpo.experiment.metrics import METRICS
from oialr_hpo.experiment.settings import COMPILE_SECONDS
from oialr_hpo.mistake import Mistake, described, hint
from oialr_hpo.runs.record import RecordError, key
from oialr_hpo.tasks import Split, Task, load_task
from oialr_hpo.training import devices
from oialr_hpo.training.loop import Diverged, train
from oialr_hpo.training.objective import build_task

PATIENCE = 10.0
"""Seconds: a rehearsal that has not ended by then ends, without having found anything; compiling comes on top."""
DATA = "the data"
PROGRESS = [metric.name for metric in METRICS.values() if metric.progress]
AT_END = [metric.name for metric in METRICS.values() if metric.at_end]
UNEXPECTED = re.compile(r"(\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '(\w+)'")
SECTIONS = ("data", "model", "training", "schedule", "score", "constraints")


def rehearse(
    experiment: Experiment,
    *,
    seed: int,
    worker: int = 0,
    threads: int = 1,
    data_dir: Path | None = None,
    split: Split = "validation",
) -> Iterator[dict[str, Any]]:
    """Make one step of an experiment's training and one evaluation, on a batch each where the task can do that.

    Its arguments are those of an objective, see `oialr_hpo.training.objective.evaluate`.

    Yields:
        an empty record once all is imported; then the numbers of the step and the evaluation and the devices that there
        are, if that took no longer than `PATIENCE`.

    Raises:
        Mistake: of the experiment or the task.
    """
    torch.set_num_threads(threads)
    try:
        load_task(experiment.task)
    except LookupError as error:
        raise Mistake(f"task: {error}") from error
    yield {}
    stage = Stage(time.monotonic() + PATIENCE + experiment.training.compile * COMPILE_SECONDS)
    try:
        record = _rehearsed(experiment, stage, seed, devices.choose(worker), data_dir, split)
    except OutOfTime:
        return
    except (Exception, SystemExit) as error:
        raise Mistake(_explained(error, stage.name, experiment)) from error
    check_metrics(experiment, record)
    yield {**record, "device": devices.of_this_process()}


def _rehearsed(
    experiment: Experiment, stage: "Stage", seed: int, device: torch.device, data_dir: Path | None, split: Split
) -> dict[str, float]:
    stage.enter(DATA)
    task = build_task(experiment, seed=seed, device=device, data_dir=data_dir, split=split)
    for name in ("split", "validates", "steps_per_epoch"):
        if not hasattr(task, name):
            raise Mistake(f"task: {experiment.task} has no {name}; see oialr_hpo.tasks.Task")
    if task.steps_per_epoch < 1:
        raise Mistake(
            f"task: {experiment.task} has {task.steps_per_epoch} steps in an epoch: training.batch_size "
            f"{experiment.training.batch_size} exceeds the data; lower it"
        )
    anything = experiment.model_copy(
        update={"score": type(experiment.score).model_validate({"minimize": "train_loss"})}
    )
    with closing(train(anything, InSmall(task, stage), seed, device, rehearsal=True)) as records:
        record = next(records)
    return {name: value for name, value in record.items() if isinstance(value, (int, float))}


def check_metrics(experiment: Experiment, record: Mapping[str, float]) -> None:
    """Raises:
    Mistake: the score or a constraint is on a metric that the record lacks, or that epochs before the last one lack.
    """
    known = [name for name in record if name not in PROGRESS]
    for section, names in (("score", experiment.score.metrics), ("constraints", experiment.constraints)):
        for name in names:
            if key(record, name) not in record:
                raise Mistake(f"{section}: there is no metric {name!r};{hint(name, known)} known: {', '.join(known)}")
            if key(record, name) in AT_END and section == "score":
                raise Mistake(f"score: {name} is measured after the last epoch only; bound it in constraints instead")
            if key(record, name) in AT_END and experiment.score.epoch == "best":
                raise Mistake(f"constraints: {name} is measured after the last epoch only; set score.epoch to last")


class OutOfTime(BaseException):
    """The rehearsal has taken too long; a task that catches exceptions does not catch this one."""


class Stage:
    """What is being rehearsed, for a mistake's text.

    Args:
        deadline: in `time.monotonic()`.
    """

    def __init__(self, deadline: float):
        self._deadline, self.name = deadline, ""

    def enter(self, name: str) -> None:
        """Go on with another part.

        Raises:
            OutOfTime: there is no time for it.
        """
        self.name = name
        if time.monotonic() > self._deadline:
            raise OutOfTime


class InSmall:
    """A task that says where the rehearsal is, and evaluates one batch where it can."""

    def __init__(self, task: Task, stage: Stage):
        self._task, self._stage = task, stage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def build_model(self) -> nn.Module:
        self._stage.enter("the network")
        model = self._task.build_model()
        if not isinstance(model, nn.Module):
            raise Mistake(f"task: build_model gives {type(model).__name__}, not a torch.nn.Module")
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise Mistake("task: build_model gives a network without parameters that can be trained")
        return model

    def train_batches(self, epoch: int) -> Iterable[Any]:
        self._stage.enter("the first batch")
        batches = iter(self._task.train_batches(epoch))
        try:
            yield next(batches)
        except StopIteration:
            raise Mistake("data: train_batches gives no batch; training.batch_size may exceed the data") from None

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        self._stage.enter("the first step")
        loss = self._task.loss(model, batch)
        if not isinstance(loss, torch.Tensor) or loss.dim() or (torch.is_grad_enabled() and not loss.requires_grad):
            found = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
            raise Mistake(f"task: loss gives {found}, not a scalar that depends on the network")
        return loss

    def evaluate(self, model: nn.Module, split: Split) -> dict[str, float]:
        self._stage.enter("the evaluation")
        can_stop = "batches" in inspect.signature(self._task.evaluate).parameters
        watch = model.register_forward_pre_hook(lambda *_: self._stage.enter("the evaluation"))
        try:
            return self._task.evaluate(model, split, **{"batches": 1} if can_stop else {})
        finally:
            watch.remove()


def _explained(error: BaseException, stage: str, experiment: Experiment) -> str:
    """What went wrong, where, and what mends it."""
    said = " ".join(str(error).split())
    keys = tuple(f"{section}." for section in (*SECTIONS, *experiment.sections_of_methods))
    if isinstance(error, Diverged):
        return "the loss of the first batch, before any step, is no finite number; look at the data and the network"
    if isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate" in said:
        return f"out of memory in {stage}; lower training.batch_size, or choose a smaller network"
    if isinstance(error, (Mistake, RecordError)) or said.startswith(keys):
        return said
    if isinstance(error, TypeError) and (found := UNEXPECTED.search(said)):
        callee, argument = found.groups()
        if argument in experiment.model.get("arguments", {}):
            known = _arguments(callee, argument, experiment.model["arguments"])
            near = hint(argument, known) or (f" it has {', '.join(known)}" if known else " remove it")
            return f"model.arguments.{argument}: {callee} has no such argument;{near}"
    name = experiment.model.get("name")
    return f"{stage}{f' of {name}' if name and stage != DATA else ''}: {described(error)}"


def _arguments(callee: str, refused: str, given: Iterable[str]) -> list[str]:
    """What the network's class of this name takes: of several, the one that takes most of what else is given."""
    classes = [kind for kind in _below(nn.Module) if kind.__name__ == callee]
    signatures = [list(inspect.signature(kind.__init__).parameters)[1:] for kind in classes]
    signatures = [names for names in signatures if refused not in names]
    return max(signatures, key=lambda names: len({*names}.intersection(given)), default=[])


def _below(kind: type[Any]) -> Iterator[type[Any]]:
    for each in type.__subclasses__(kind):
        yield each
        yield from _below(each)
