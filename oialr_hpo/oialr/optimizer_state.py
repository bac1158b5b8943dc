"""Optimizer state through a change of basis.

When a weight W becomes Sigma = U^T W V, or Sigma becomes U'^T Sigma V', its gradient changes in the same way,
G -> L^T G R. Therefore, with L and R the bases that are kept:

- State that is linear in the gradients or the weights (Adam's `exp_avg`, SGD's `momentum_buffer`, Lookahead's
  slow weights) changes exactly: M -> L^T M R.
- Second moments have no exact change of basis, since the covariances between entries were never stored.
  They are transported as if the entries were uncorrelated, v -> (L*L)^T v (R*R): for orthogonal L and R this
  keeps the sum, and entries stay positive. Where the mean g is kept too (centred RMSprop), the variance v - g*g is
  transported and the new mean's square added, so that v stays at least g*g.
- torch.optim.Adam and AdamW go on as if what was transported were the average of a single step (`step` = 1, moments
  scaled so that their bias-corrected values stay): the directions are right, and the estimate gives way to the new
  basis's own gradients within some ten steps instead of 1 / (1 - beta2).
- Other optimizers keep their scalars (`step`).
- Only what is known by its name is transported. With anything else (Adafactor's rows and columns, Kron's factors,
  the quantized moments of bitsandbytes), the parameter's whole state starts afresh.

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

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import Parameter

LINEAR = {
    "exp_avg", "exp_avg_slow", "momentum_buffer", "momentum", "grad_avg",  # averages of gradients, or of steps
    "exp_avg_diff", "neg_pre_grad", "last_grad",  # Adan, MARS
    "s", "x0", "ax", "z",  # MADGRAD; averages of weights: ASGD, schedule-free
    "lookahead_slow_buff", "old_p", "e_w",  # Lookahead, SAM
}  # fmt: skip
SECOND_MOMENTS = {
    "exp_avg_sq", "max_exp_avg_sq", "max_exp_avg_sqs",  # Adam and its kin
    "exp_avg_var", "max_exp_avg_var",  # AdaBelief
    "exp_hessian_diag_sq",  # Adahessian
    "square_avg", "acc_delta",  # RMSprop, Adadelta
    "sum", "grad_sum_sq",  # Adagrad, MADGRAD
    "exp_inf",  # Adamax
}  # fmt: skip


class Unknown(Exception):
    """A part of an optimizer's state, by its name, that cannot follow a change of basis."""


def carry_over(
    state: Mapping[str, Any],
    old: Parameter,
    left: Tensor | None,
    right: Tensor | None,
    kind: type,
    group: Mapping[str, Any],
) -> dict[str, Any]:
    """What an optimizer of this kind knows of `old`, as the state of its successor, left^T old right.

    Raises Unknown where a part of the state cannot follow.
    """
    carried = transport(state, old, left, right)
    if kind in (torch.optim.Adam, torch.optim.AdamW) and "betas" in group and float(carried.get("step", 0)):
        restart_memory(carried, group["betas"])
    return carried


@torch.no_grad()
def transport(state: Mapping[str, Any], old: Parameter, left: Tensor | None, right: Tensor | None) -> dict[str, Any]:
    """The state of `old` in the basis of its successor, left^T old right; None is the identity."""
    like = next((basis for basis in (left, right) if basis is not None), old)
    for name, value in state.items():
        if not _known(name, value, old):
            raise Unknown(name)
    result = dict(state)
    for name, value in state.items():
        if not isinstance(value, Tensor) or value.dim() == 0:
            continue
        matrix = value.flatten(1).to(like)
        if name == "square_avg" and isinstance(mean := state.get("grad_avg"), Tensor):
            mean = mean.flatten(1).to(like)
            variance = _mixed((matrix - mean.square()).clamp(min=0), left, right)
            moved = variance + _between(mean, left, right).square()
        elif name in SECOND_MOMENTS:
            moved = _mixed(matrix, left, right)
        else:
            moved = _between(matrix, left, right)
        result[name] = moved.to(value)
    return result


def _between(matrix: Tensor, left: Tensor | None, right: Tensor | None) -> Tensor:
    matrix = matrix if left is None else left.t() @ matrix
    return matrix if right is None else matrix @ right


def _mixed(moments: Tensor, left: Tensor | None, right: Tensor | None) -> Tensor:
    return _between(moments, *(None if basis is None else basis.square() for basis in (left, right)))


def _known(name: str, value: Any, old: Parameter) -> bool:
    if not isinstance(value, Tensor):
        return value is None or isinstance(value, (int, float, str))
    if value.dim() == 0:
        return True
    fits = type(value) in (Tensor, Parameter) and value.shape == old.shape and value.is_floating_point()
    return fits and (name in LINEAR or name in SECOND_MOMENTS)


@torch.no_grad()
def restart_memory(state: dict[str, Any], betas: tuple[float, float]) -> None:
    """Makes Adam's moments count as those of one step; their bias-corrected values stay."""
    t = float(state["step"])
    for name, beta in {"exp_avg": betas[0], "exp_avg_sq": betas[1], "max_exp_avg_sq": betas[1]}.items():
        if name in state:
            state[name] = state[name] * ((1 - beta) / (1 - beta**t))
    state["step"] = torch.ones_like(state["step"])
