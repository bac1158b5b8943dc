"""`python -m oialr_hpo.benchmark moments`: what becomes of Adam's second moments when the basis of a weight changes.

A small ViT on scikit-learn's digits (search_spaces/vit_digits.yaml) is trained with the paper's settings, once per
candidate and seed. All candidates of a seed see the same batches and are identical up to the change-over, so that
they are compared pair by pair. The first moment is rotated exactly, except where the candidate's name says otherwise.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor

from oialr_hpo.benchmark.measure import print_table
from oialr_hpo.commands import Parser, command, positive
from oialr_hpo.experiment import load
from oialr_hpo.methods import Loop
from oialr_hpo.methods.oialr import OIALR
from oialr_hpo.oialr import optimizer_state
from oialr_hpo.optimization import make_schedule
from oialr_hpo.training.loop import attach
from oialr_hpo.training.objective import build_task
from oialr_hpo.training.optimizer import make_optimizer

BETAS = (0.9, 0.999)  # of the experiment's AdamW
EARLY = 10  # steps counted as right after a change of basis

State = Mapping[str, Any]
exact = optimizer_state.transport


def _second(change: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[..., dict[str, Any]]:
    """A candidate that only decides about `exp_avg_sq`: v (m x n), L (m x r) and R (n x r) to r x r."""

    def transport(state: State, old: Tensor, left: Tensor, right: Tensor) -> dict[str, Any]:
        v = state["exp_avg_sq"].flatten(1)
        return {**exact(state, old, left, right), "exp_avg_sq": change(v, left, right).contiguous()}  # type: ignore[arg-type]

    return transport


def _short_memory(steps: int) -> Callable[..., dict[str, Any]]:
    """A candidate that transports both moments and then sets `step` back, so that new gradients soon outweigh v.

    The moments are scaled so that their bias-corrected values stay.
    """

    def transport(state: State, old: Tensor, left: Tensor, right: Tensor) -> dict[str, Any]:
        moved, t = exact(state, old, left, right), float(state["step"])  # type: ignore[arg-type]
        k = min(float(steps), t)
        for name, beta in zip(("exp_avg", "exp_avg_sq"), BETAS, strict=True):
            moved[name] = moved[name] * (1 - beta**k) / (1 - beta**t)
        return moved | {"step": torch.full_like(state["step"], k)}

    return transport


def _afresh(state: State, old: Tensor, left: Tensor, right: Tensor) -> dict[str, Any]:
    moved = exact(state, old, left, right)  # type: ignore[arg-type]
    return {name: torch.zeros_like(value) for name, value in moved.items()}


def _zero_moments(state: State, old: Tensor, left: Tensor, right: Tensor) -> dict[str, Any]:
    return _afresh(state, old, left, right) | {"step": state["step"]}


def _uncorrelated(v: Tensor, left: Tensor, right: Tensor) -> Tensor:
    return left.square().t() @ v @ right.square()


def _mean(v: Tensor, left: Tensor, right: Tensor) -> Tensor:
    return v.mean().expand(left.shape[1], right.shape[1])


def _sliced(v: Tensor, left: Tensor, right: Tensor) -> Tensor:
    return v[: left.shape[1], : right.shape[1]]


def _rotated_root(v: Tensor, left: Tensor, right: Tensor) -> Tensor:
    return (left.t() @ v.sqrt() @ right).square()


CANDIDATES: dict[str, Callable[..., dict[str, Any]]] = {
    "(L*L)' v (R*R)": _second(_uncorrelated),
    "mean of v": _second(_mean),
    "(L' sqrt(v) R)^2": _second(_rotated_root),
    "v[:r, :r]": _second(_sliced),
    "(L*L)' v (R*R), step 10": _short_memory(10),
    "(L*L)' v (R*R), step 1": _short_memory(1),
    "all afresh, step 0": _afresh,
    "all zero, step kept": _zero_moments,
}


@dataclass(frozen=True)
class Course:
    """Training losses at every step, the steps at which a basis changed, and what was reached on validation images."""

    losses: list[float]
    changes: list[int]
    loss: float
    error: float
    trainable_percent: float

    def figures(self) -> dict[str, float]:
        change_over, *cuts = self.changes
        after_cuts = [loss for t in cuts for loss in self.losses[t : t + EARLY]]
        return {
            f"{EARLY} steps after change-over": fmean(self.losses[change_over : change_over + EARLY]),
            "highest there": max(self.losses[change_over : change_over + EARLY]),
            f"{EARLY} steps after updates": fmean(after_cuts),
            "validation loss": self.loss,
            "error %": 100 * self.error,
            "trainable %": self.trainable_percent,
        }


def train(candidate: str, seed: int, changes: Sequence[str]) -> Course:
    """One training with one candidate."""
    torch.set_num_threads(1)
    optimizer_state.transport = CANDIDATES[candidate]
    optimizer_state.restart_memory = lambda state, betas: None  # the candidates themselves decide about `step`
    experiment = load("vit_digits", changes)
    task = build_task(experiment, seed=seed, device=torch.device("cpu"), data_dir=None)
    torch.manual_seed(seed)
    model = task.build_model()
    optimizer = make_optimizer(model, experiment.training, experiment.schedule.lr)
    total = experiment.training.epochs * task.steps_per_epoch
    set_rate = make_schedule(experiment.schedule, optimizer, total, task.steps_per_epoch)
    loop = Loop(model, optimizer, task.loss, total, task.steps_per_epoch, [], lambda: iter(task.train_batches(1)))
    method = attach(experiment, loop)
    assert isinstance(method, OIALR)
    oialr = method.oialr
    losses: list[float] = []
    changed: list[int] = []
    for epoch in range(1, experiment.training.epochs + 1):
        for batch in task.train_batches(epoch):
            set_rate(len(losses))
            loss = task.loss(model, batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), experiment.training.clip_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            updates, converted = oialr.updates, bool(oialr.ranks)
            oialr.step()
            if oialr.updates > updates or bool(oialr.ranks) > converted:
                changed.append(len(losses))
    model.eval()
    with torch.no_grad():
        metrics = task.evaluate(model, "validation")
    return Course(losses, changed, metrics["loss"], metrics["error"], oialr.trainable_percent)


def _train(work: tuple[str, int, Sequence[str]]) -> Course:
    return train(*work)


def compare(seeds: int, processes: int, changes: Sequence[str]) -> dict[str, list[dict[str, float]]]:
    """Figures per candidate, one entry per seed."""
    work = [(name, seed, changes) for name, seed in product(CANDIDATES, range(seeds))]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        courses = pool.map(_train, work, chunksize=1)
    figures = [course.figures() for course in courses]
    return {name: figures[i * seeds : (i + 1) * seeds] for i, name in enumerate(CANDIDATES)}


def rows(results: Mapping[str, Sequence[Mapping[str, float]]]) -> list[list[str]]:
    """Means, and in brackets the mean difference to the first candidate with its standard error."""
    first = next(iter(results.values()))
    names = list(first[0])
    table = [["second moments", *names]]
    for candidate, figures in results.items():
        cells = []
        for name in names:
            values = [figure[name] for figure in figures]
            differences = [value - other[name] for value, other in zip(values, first, strict=True)]
            text = f"{fmean(values):.4g}"
            if figures is not first and len(values) > 1:
                text += f" ({fmean(differences):+.3g} +- {stdev(differences) / math.sqrt(len(values)):.2g})"
            cells.append(text)
        table.append([candidate, *cells])
    return table


@command
def main(arguments: Sequence[str]) -> None:
    parser = Parser("benchmark moments", __doc__, "--seeds 3")
    parser.add_argument("--seeds", type=positive, default=10)
    parser.add_argument("--processes", type=positive, default=2, help="each with one thread")
    parser.add_changes()
    options = parser.parse_args(arguments)
    print(f"{options.seeds} seeds; in brackets: mean difference to the first row +- its standard error")
    print_table(rows(compare(options.seeds, options.processes, options.set)))
