"""Optimizer state through a change of basis.

When a weight W becomes Sigma = U^T W V, or Sigma becomes U'^T Sigma V', its gradient changes in the same way,
G -> L^T G R. Therefore, with L and R the bases that are kept:

- State that is linear in the gradients or the weights (Adam's `exp_avg`, SGD's `momentum_buffer`, Lookahead's
  slow weights) changes exactly: M -> L^T M R.
- Second moments have no exact change of basis, since the covariances between entries were never stored.
  They are transported as if the entries were uncorrelated, v -> (L*L)^T v (R*R): for orthogonal L and R this
  keeps the sum, and entries stay positive, so that `step` and bias correction stay valid.
- Scalars (`step`) are kept.
- Anything of another shape (Adafactor's rows and columns, Kron's factors) cannot be transported: the
  parameter's whole state starts afresh, and a warning says so once per optimizer class.
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
    for group in optimizer.param_groups:
        for position, parameter in enumerate(group["params"]):
            if parameter is old:
                group["params"][position] = new
    states = getattr(optimizer, "_base_optimizer", optimizer).state  # timm's Lookahead wraps another
    state = states.pop(old, None)
    if not state or left is None or right is None:
        return
    try:
        states[new] = transport(state, old, left, right)
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
