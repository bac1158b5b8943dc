"""Optimizer state through a change of basis.

When a weight W becomes Sigma = U^T W V, or Sigma becomes U'^T Sigma V', its gradient changes in the same way,
G -> L^T G R. Therefore, with L and R the bases that are kept:

- State that is linear in the gradients or the weights (Adam's `exp_avg`, SGD's `momentum_buffer`, Lookahead's
  slow weights) changes exactly: M -> L^T M R.
- Second moments have no exact change of basis, since the covariances between entries were never stored.
  They are transported as if the entries were uncorrelated, v -> (L*L)^T v (R*R): for orthogonal L and R this
  keeps the sum, and entries stay positive.
- torch.optim.Adam and AdamW go on as if what was transported were the average of a single step (`step` = 1, moments
  scaled so that their bias-corrected values stay): the directions are right, and the estimate gives way to the new
  basis's own gradients within some ten steps instead of 1 / (1 - beta2).
- Other optimizers keep their scalars (`step`).
- Anything of another shape (Adafactor's rows and columns, Kron's factors) cannot be transported: the
  parameter's whole state starts afresh, and a warning says so once per optimizer class.

Why: `python -m oialr_hpo.benchmark moments --set training.epochs=8`, a ViT on digits, all runs of a seed equal up to
the change-over. Training loss over the 10 steps after it, validation loss and trainable % at the end; below the first
line differences to it +- their standard errors:

    learning rate 5e-3, decaying; 8 seeds
                                after change-over   validation          trainable %
    (L*L)^T v (R*R)             0.407               0.298               27.6
    mean of v                   +0.001 +- 0.0002    -0.008 +- 0.002     +0.04 +- 0.02
    v[:r, :r]                   +0.019 +- 0.005     -0.007 +- 0.005     -0.4 +- 0.04
    (L^T sqrt(v) R)^2           +0.048 +- 0.010     -0.038 +- 0.008     -2.7 +- 0.2
    (L*L)^T v (R*R), step 10    -0.012 +- 0.002     -0.005 +- 0.002     -0.1 +- 0.02
    (L*L)^T v (R*R), step 1     -0.026 +- 0.006     -0.014 +- 0.003     -1.1 +- 0.1
    all afresh, step 0          -0.021 +- 0.007     -0.020 +- 0.003     -2.3 +- 0.1
    all zero, step kept         -0.017 +- 0.007     -0.043 +- 0.005     -3.2 +- 0.2
    learning rate rising from 5e-3 to 1e-2, as in the paper's tuned settings; 4 seeds
    (L*L)^T v (R*R)             0.476               0.268               19.5
    (L*L)^T v (R*R), step 1     -0.063 +- 0.019     -0.032 +- 0.017     -6.7 +- 0.4
    all afresh, step 0          -0.036 +- 0.026     +0.031 +- 0.027     -7.3 +- 0.3
    all zero, step kept         -0.038 +- 0.030     +0.031 +- 0.016     -8.3 +- 0.6

Step 1 is ahead under both schedules (and at 1e-2, decaying). Zero moments with `step` kept, as in the authors' code,
make steps three to six times too large for hundreds of steps, which helps only where the rate is too low by then.
The runs are short, 184 steps: nothing was measured where 1 / (1 - beta2) = 1000 steps are few.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import Parameter
from torch.optim import Optimizer

SECOND_MOMENTS = {
    "exp_avg_sq", "max_exp_avg_sq", "max_exp_avg_sqs",  # Adam and its kin
    "exp_avg_var", "max_exp_avg_var",  # AdaBelief
    "exp_hessian_diag_sq",  # Adahessian
    "square_avg", "acc_delta",  # RMSprop, Adadelta
    "sum", "grad_sum_sq",  # Adagrad, MADGRAD
    "exp_inf",  # Adamax
}  # fmt: skip
PER_ENTRY = {"step_size"}  # Rprop: neither linear nor quadratic in the gradients
UNSUPPORTED = {
    "Adahessian": "differentiates twice, which low-rank layers cannot",
    "LBFGS": "keeps a history of all weights in one vector, whose length changes",
}


def check_supported(optimizer: Optimizer) -> None:
    """Raises TypeError for an optimizer that cannot train a network whose weights change shape."""
    name = type(optimizer).__name__
    if name in UNSUPPORTED:
        raise TypeError(f"OIALR: the optimizer {name} {UNSUPPORTED[name]}; use another, such as torch.optim.AdamW")


def replace_parameter(
    optimizer: Optimizer,
    old: Parameter,
    new: Parameter,
    left: Tensor | None = None,
    right: Tensor | None = None,
) -> None:
    """Puts `new` in `old`'s place in its parameter group and carries the state over.

    `left` (m x r) and `right` (n x r) are orthonormal columns such that `new` is left^T old right. Without
    them `new` starts without state. Does nothing where `old` is not in `optimizer`.
    """
    betas = None
    for group in optimizer.param_groups:
        for position, parameter in enumerate(group["params"]):
            if parameter is old:
                group["params"][position] = new
                betas = group.get("betas")
    base = getattr(optimizer, "_base_optimizer", optimizer)  # timm's Lookahead wraps another
    state = base.state.pop(old, None)
    if not state or left is None or right is None:
        return
    try:
        base.state[new] = transport(state, old, left, right)
        if type(base) in (torch.optim.Adam, torch.optim.AdamW) and betas is not None:
            restart_memory(base.state[new], betas)
    except _NoTransport as error:
        warnings.warn(
            f"{type(optimizer).__name__}: '{error}' cannot follow a change of basis; the state of low-rank "
            "weights starts afresh",
            stacklevel=2,
        )


@torch.no_grad()
def transport(state: Mapping[str, Any], old: Parameter, left: Tensor, right: Tensor) -> dict[str, Any]:
    """The state of `old` in the basis of its successor, left^T old right."""
    return {name: _transported(name, value, old, left, right) for name, value in state.items()}


@torch.no_grad()
def restart_memory(state: dict[str, Any], betas: tuple[float, float]) -> None:
    """Makes Adam's moments count as those of one step; their bias-corrected values stay."""
    t = float(state["step"])
    for name, beta in {"exp_avg": betas[0], "exp_avg_sq": betas[1], "max_exp_avg_sq": betas[1]}.items():
        if name in state:
            state[name] = state[name] * ((1 - beta) / (1 - beta**t))
    state["step"] = torch.ones_like(state["step"])


def separate(optimizer: Optimizer, weights: Iterable[Parameter]) -> None:
    """Moves `weights` into parameter groups of their own, a copy of each decayed group that holds some.

    There `stop_decay` will act. Raises ValueError where a scheduler, which counts the groups, is attached already.
    """
    chosen = set(weights)
    separated: list[dict[str, Any]] = []
    for group in [group for group in optimizer.param_groups if group.get("weight_decay")]:
        moved = [p for p in group["params"] if p in chosen]
        if not moved:
            continue
        if "initial_lr" in group:
            raise ValueError("decay_sigma=False adds parameter groups: build OIALR before the scheduler")
        group.pop("param_names", None)
        separated.append({**group, "params": moved, "low_rank": True})
        group["params"] = [p for p in group["params"] if p not in chosen]
    optimizer.param_groups.extend(separated)


def stop_decay(optimizer: Optimizer) -> None:
    """Sets the weight decay of the groups made by `separate` to zero."""
    for group in optimizer.param_groups:
        if group.get("low_rank"):
            group["weight_decay"] = 0.0


class _NoTransport(Exception):
    pass


def _transported(name: str, value: Any, old: Parameter, left: Tensor, right: Tensor) -> Any:
    if isinstance(value, (list, tuple, dict)):
        raise _NoTransport(name)
    if not isinstance(value, Tensor) or value.dim() == 0:
        return value
    if value.shape != old.shape or not value.is_floating_point() or name in PER_ENTRY:
        raise _NoTransport(name)
    matrix = value.flatten(1).to(left.dtype)
    if name in SECOND_MOMENTS:
        left, right = left.square(), right.square()
    return (left.t() @ matrix @ right).to(value.dtype)
