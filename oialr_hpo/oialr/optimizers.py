"""The optimizers of one network: several, and those that wrap others, are followed as one or refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import Parameter
from torch.optim import SGD, Optimizer

from oialr_hpo.oialr.optimizer_state import SECOND_MOMENTS, Unknown, carry_over

UNSUPPORTED = {
    "Adahessian": "keeps attributes on the weights themselves, which are replaced",
    "LBFGS": "keeps a history of all weights in one vector, whose length changes",
    "ZeroRedundancyOptimizer": "spreads its state over processes by the weights' sizes, which change",
}
PATIENCE = 10  # times as many calls without any step of the optimizers as before, until a warning
OWN = {"param_groups", "state", "defaults"}


class Optimizers:
    """What was given as a network's optimizer: None, one, or several, each perhaps around others (SAM, Lookahead,
    accelerate's AcceleratedOptimizer, any object that has an optimizer as attribute).

    Raises TypeError, in the name of the `method`, for what is no optimizer and holds none, and for one that cannot
    follow weights whose shape changes.
    """

    def __init__(self, given: Any, method: str = "OIALR") -> None:
        self._method = method
        self._holders: list[Any] = []  # inside out
        outermost = [] if given is None else given if isinstance(given, (list, tuple)) else [given]
        for optimizer in outermost:
            self._add(optimizer)
        self._stepped = False
        self._idle = self._longest = 0  # calls since the last step, and the most between two of them
        self._warned: set[type] = set()
        self._listen()

    def _listen(self) -> None:
        innermost = [holder for holder in self._holders if not _inside(holder)]
        self._counting = bool(innermost) and all(_calls_hooks(optimizer) for optimizer in innermost)
        for optimizer in innermost if self._counting else ():
            optimizer.register_step_post_hook(self._note_step)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copied or unpickled optimizer comes without its hooks."""
        vars(self).update(state)
        self._listen()

    def __bool__(self) -> bool:
        return bool(self._holders)

    def _add(self, optimizer: Any) -> None:
        inside = _inside(optimizer)
        if not isinstance(optimizer, Optimizer) and not inside:
            raise TypeError(f"{self._method}: {type(optimizer).__name__} is no torch.optim.Optimizer and holds none")
        for kind in type(optimizer).__mro__:
            if reason := UNSUPPORTED.get(kind.__name__):
                remedy = "use another, such as torch.optim.AdamW"
                raise TypeError(f"{self._method}: the optimizer {kind.__name__} {reason}; {remedy}")
        for inner in inside:
            self._add(inner)
        if hasattr(optimizer, "param_groups") and not any(optimizer is holder for holder in self._holders):
            self._holders.append(optimizer)

    def _note_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        overflow = getattr(optimizer, "found_inf", None)  # set by torch.amp.GradScaler around the step of fused kinds
        if overflow is None or not float(overflow):
            self._stepped = True

    def take_step(self) -> bool:
        """Whether an optimizer made a step since the last call. True where the optimizers do not tell."""
        stepped = self._stepped or not self._counting
        self._stepped = False
        self._longest = max(self._longest, self._idle) if stepped else self._longest
        self._idle = 0 if stepped else self._idle + 1
        if self._idle == PATIENCE * (1 + self._longest):
            warnings.warn(
                f"OIALR counts the steps of {type(self._holders[-1]).__name__}, which made none in {self._idle} calls "
                "of oialr.step(): call it after optimizer.step(), and pass the optimizer that trains",
                stacklevel=3,
            )
        return stepped

    def groups(self) -> list[dict[str, Any]]:
        """All parameter groups, each once."""
        return list({id(group): group for holder in self._holders for group in holder.param_groups}.values())

    def add_beside(self, held: Parameter, *new: Parameter) -> None:
        """Adds parameters to the group that has another one; does nothing where no optimizer holds that."""
        for group in self.groups():
            if any(parameter is held for parameter in group["params"]):
                group["params"] += new

    def held(self) -> set[int]:
        """The ids of all parameters in the groups."""
        return {id(parameter) for group in self.groups() for parameter in group["params"]}

    def check(self, weights: Iterable[Tensor]) -> None:
        """Raises TypeError where an optimizer keeps `weights`, or tensors of their shapes, beside its groups and
        states: nothing could take them along."""
        weights = list(weights)
        known, shapes = {id(weight) for weight in weights}, {weight.shape for weight in weights}
        for holder in self._holders:
            for name, value in vars(holder).items():
                if name in OWN or not any(id(t) in known or t.shape in shapes for t in _tensors(value)):
                    continue
                raise TypeError(
                    f"{self._method}: {type(holder).__name__} keeps weights in its attribute '{name}', where they "
                    "cannot be followed; use another optimizer"
                )

    def replace(self, old: Parameter, new: Parameter, left: Tensor | None = None, right: Tensor | None = None) -> None:
        """Puts `new` in `old`'s place in its parameter group and carries the state over.

        `left` (m x r) and `right` (n x r) are orthonormal columns such that `new` is left^T old right; None of them is
        the identity. Without both `new` starts without state. Does nothing where no optimizer holds `old`.
        """
        group = self._put(old, new)
        for holder in self._holders:
            state = holder.state.pop(old, None)
            if not state or (left is None and right is None):
                continue
            try:
                holder.state[new] = carry_over(state, old, left, right, type(holder), group)
            except Unknown as error:
                self._warn(type(holder), f"'{error}' cannot follow a change of basis; the state of low-rank weights")

    def narrow(self, old: Parameter, new: Parameter, part: Callable[[Tensor], Tensor]) -> None:
        """Puts `new`, which is this part of `old`, in its place, with the same part of all that is known of it.

        Does nothing where no optimizer holds `old`.
        """
        self._put(old, new)
        for holder in self._holders:
            state = holder.state.pop(old, None) or {}
            whole = {name: value for name, value in state.items() if isinstance(value, Tensor) and value.numel() > 1}
            if other := next((name for name, value in whole.items() if value.shape != old.shape), None):
                self._warn(type(holder), f"'{other}' has no part for a part of a weight; the state of narrowed weights")
            elif state:
                parts = {name: part(value) for name, value in state.items() if getattr(value, "shape", 0) == old.shape}
                holder.state[new] = state | parts

    def _put(self, old: Parameter, new: Parameter) -> dict[str, Any]:
        """`new` in `old`'s place in the parameter groups; the last of them, or an empty one."""
        group: dict[str, Any] = {}
        for each in self.groups():
            for position, parameter in enumerate(each["params"]):
                if parameter is old:
                    each["params"][position] = new
                    group = each
        return group

    def start_momentum(self, new: Iterable[Parameter]) -> None:
        """Gives parameters without state zero momentum where torch's fused SGD has some of others in their group: it
        takes all of a group for new, or none."""
        known = {id(parameter) for parameter in new}
        for holder in self._holders:
            for group in holder.param_groups if isinstance(holder, SGD) else ():
                started = any(holder.state.get(p, {}).get("momentum_buffer") is not None for p in group["params"])
                for parameter in group["params"] if started and group.get("fused") else ():
                    if id(parameter) in known:
                        holder.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))

    def knows_second_moments(self, weight: Parameter) -> bool:
        """Whether an optimizer keeps some of this weight, such as Adam's, which have no exact change of basis."""
        return any(not SECOND_MOMENTS.isdisjoint(holder.state.get(weight, {})) for holder in self._holders)

    def _warn(self, kind: type, what: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            warnings.warn(f"{kind.__name__}: {what} starts afresh", stacklevel=3)

    def separate(self, weights: Iterable[Parameter]) -> None:
        """Moves `weights` into parameter groups of their own, a copy of each decayed group that holds some.

        There `stop_decay` will act. Raises ValueError where a scheduler, which counts the groups, is attached already.
        """
        chosen = set(weights)
        separated: dict[int, dict[str, Any]] = {}
        for group in self.groups():
            moved = [p for p in group["params"] if p in chosen]
            if not moved or not group.get("weight_decay"):
                continue
            if "initial_lr" in group:
                raise ValueError("decay_sigma=False adds parameter groups: build OIALR before the scheduler")
            group.pop("param_names", None)
            separated[id(group)] = {**group, "params": moved, "low_rank": True}
            group["params"] = [p for p in group["params"] if p not in chosen]
        for groups in {id(holder.param_groups): holder.param_groups for holder in self._holders}.values():
            groups.extend([separated[id(group)] for group in groups if id(group) in separated])

    def stop_decay(self) -> None:
        """Sets the weight decay of the groups made by `separate` to zero."""
        for group in self.groups():
            if group.get("low_rank"):
                group["weight_decay"] = 0.0


def _inside(optimizer: Any) -> list[Optimizer]:
    """The optimizers that are attributes of another, or items of its attributes."""
    inside: list[Optimizer] = []
    for value in getattr(optimizer, "__dict__", {}).values():
        items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else [value]
        inside += [item for item in items if isinstance(item, Optimizer)]
    return inside


def _calls_hooks(optimizer: Any) -> bool:
    """Whether torch wrapped the optimizer's `step` so that it tells of every step."""
    return hasattr(optimizer, "_optimizer_step_post_hooks") and getattr(type(optimizer).step, "hooked", False)


def _tensors(value: Any, depth: int = 4) -> Iterator[Tensor]:
    """All tensors in containers within containers."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (dict, Sequence, set)) and not isinstance(value, (str, bytes)) and depth:
        for item in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from _tensors(item, depth - 1)
