"""The OIALR schedule: dense training, the change-over, then updates from the network's back (Algorithm 2)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import Parameter, is_lazy
from torch.optim import Optimizer

from oialr_hpo.oialr.averages import copy_in, follow_all
from oialr_hpo.oialr.conversion import convert, empty_factors, planned_weights, reshape, successor
from oialr_hpo.oialr.decomposition import exactly, number_kept, svd
from oialr_hpo.oialr.distributed import check_whole, plain, process_group, rebuild, unwrapped
from oialr_hpo.oialr.layers import LowRank
from oialr_hpo.oialr.merging import merge
from oialr_hpo.oialr.optimizers import Optimizers
from oialr_hpo.oialr.planning import Layer, Report, plan
from oialr_hpo.section import steps


class OIALR:
    """Trains `model` by Orthogonality-Informed Adaptive Low-Rank training (paper, section 4).

        oialr = OIALR(model, optimizer, delay=2500, frequency=500)
        ...
        optimizer.step()
        oialr.step()

    `OIALR.for_run` takes fractions of a run in the place of steps.

    The network is changed in place. At optimizer step `delay` every weight W becomes U Sigma V^T with U and V
    frozen. Whenever a later step is a multiple of `frequency`, the last l = L * step_fraction * u layers are
    updated, where L is the number of low-rank layers and u = 1, 2, ... counts the updates: their bases absorb
    the singular vectors of Sigma, and singular values below `cutoff` times the largest are dropped.

    `requires_grad` is the user's: a weight that is frozen at the change-over stays dense, one that is not becomes
    low-rank, and a layer whose Sigma is frozen later is left as it is by updates.

    Arguments:
        model: any network, also inside DistributedDataParallel.
        optimizer: its optimizer, if there is one already, or a list of several (Muon for the matrices, AdamW for
            the rest), also inside wrappers such as SAM or accelerate's. Sigma takes the place of its weight there,
            in the same parameter group, with momenta carried over. A weight in none of them stays dense, with a
            warning.
        delay: d, in optimizer steps; 0 converts at once.
        frequency: nu, in optimizer steps.
        cutoff: beta, the share of the largest singular value below which others are dropped.
        step_fraction: alpha, the share of the layers by which every update reaches further to the front.
        first_cutoff: the same as `cutoff`, of all layers at the change-over, which the paper leaves at full rank (0).
        energy: no more singular values are kept than hold this share of the sum of their squares.
        keep_first, keep_last: leave the network's first or last projection dense.
        include, exclude: shell patterns on layer names ('*.mlp.*').
        min_size: weights with min(m, n) below it stay dense.
        max_cut: at most this share of a layer's rank is dropped in one update (0.5 in the authors' code).
        min_rank: no rank falls below this share of min(m, n) (0.01 in the authors' code).
        rank_multiple: ranks are rounded up to a multiple, for tensor cores and fewer recompilations.
        decay_sigma: whether Sigma keeps the weight decay of its weight. U and V are orthonormal, so that
            decaying Sigma by a factor decays W by the same, as in dense training: the default. False turns it
            off from the change-over on, in parameter groups of their own: build OIALR before the scheduler.
        averages: averages of the network's weights that are to follow it: copies, or objects that hold one.
            timm's ModelEma classes and torch's AveragedModel follow by themselves from their first update on; name
            them where a saved state is to be loaded into them. The list `averages` may be added to later.

    Raises ValueError for an argument out of range, a pattern that matches nothing, and a network without any
    layer to convert; TypeError for an optimizer that cannot follow (L-BFGS, Adahessian, ZeroRedundancyOptimizer), a
    network spread over processes (FSDP), and an average that holds no copy of the network; FloatingPointError, naming
    the layer, where a weight is not finite.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Sequence[Optimizer] | None = None,
        *,
        delay: int,
        frequency: int,
        cutoff: float = 0.1,
        step_fraction: float = 0.1,
        first_cutoff: float = 0.0,
        energy: float = 1.0,
        keep_first: bool = False,
        keep_last: bool = False,
        include: Sequence[str] = ("*",),
        exclude: Sequence[str] = (),
        min_size: int = 1,
        max_cut: float = 1.0,
        min_rank: float = 0.0,
        rank_multiple: int = 1,
        decay_sigma: bool = True,
        averages: Sequence[Any] = (),
    ) -> None:
        whole = {"delay": (delay, 0), "frequency": (frequency, 1), "rank_multiple": (rank_multiple, 1)}
        for name, (count, least) in whole.items():
            _check(name, count, count >= least and count % 1 == 0, f"a whole number, {least} or more")
        for name, share in {"cutoff": cutoff, "first_cutoff": first_cutoff, "min_rank": min_rank}.items():
            _check(name, share, 0 <= share <= 1, "between 0 and 1")
        for name, share in {"step_fraction": step_fraction, "energy": energy, "max_cut": max_cut}.items():
            _check(name, share, 0 < share <= 1, "above 0 and at most 1")
        self.model, self.optimizer = model, optimizer
        self.delay, self.frequency = delay, frequency
        self.cutoff, self.step_fraction = cutoff, step_fraction
        self.first_cutoff, self.energy = first_cutoff, energy
        self.max_cut, self.min_rank, self.rank_multiple = max_cut, min_rank, rank_multiple
        self._network, self._process_group = unwrapped(model), process_group(model)
        check_whole(model)
        self._optimizers = Optimizers(optimizer)
        self.averages = list(averages)
        for average in averages:
            copy_in(average, self._network)
        self._warned_of_dense = False
        self._selection: dict[str, Any] = {
            "include": include, "exclude": exclude, "keep_first": keep_first, "keep_last": keep_last,
            "min_size": min_size,
        }  # fmt: skip
        for name, parameter in self._network.named_parameters():
            if is_lazy(parameter):
                raise ValueError(f"'{name}' is not initialised: run the network on a batch before OIALR(...)")
            if parameter.is_meta:
                raise ValueError(f"'{name}' is on the meta device, without values: load the weights before OIALR(...)")
        self.report: Report = self._plan()
        if all(layer.reason for layer in self.report):
            raise ValueError(f"{type(self._network).__name__} has no layer to convert:\n{self.report}")
        self.steps = 0
        self.updates = 0
        self._warned = self._merged = False
        self._dense_parameters = sum(parameter.numel() for parameter in self._network.parameters())
        self._layers: dict[str, list[LowRank]] = {}
        weights = planned_weights(self._network, self.report)
        self._optimizers.check(weights)
        if not decay_sigma:
            self._optimizers.separate(weights)
        if delay == 0:
            self._convert()

    @classmethod
    def for_run(
        cls,
        model: nn.Module,
        optimizer: Optimizer | Sequence[Optimizer] | None,
        total_steps: int,
        *,
        delay: float = 0.333333333,
        frequency: float = 0.034,
        **arguments: Any,
    ) -> OIALR:
        """For a run of `total_steps` optimizer steps, of which `delay` and `frequency` are fractions, as the paper has
        them; an int is a number of steps. The other arguments are those of the constructor.

        Raises ValueError for fractions outside of [0, 1] too.
        """
        _check("total_steps", total_steps, total_steps >= 1 and total_steps % 1 == 0, "a whole number, 1 or more")
        for name, duration in (("delay", delay), ("frequency", frequency)):
            fits = isinstance(duration, int) or 0 <= duration <= 1
            _check(name, duration, fits, "a fraction of the run between 0 and 1, or a whole number of steps")
        often = max(1, steps(frequency, total_steps))
        return cls(model, optimizer, delay=steps(delay, total_steps), frequency=often, **arguments)

    def step(self) -> None:
        """To be called after every `optimizer.step()`: counts it, and converts or updates when due.

        A step that the optimizer did not make is not counted (a GradScaler skips those with infinite gradients).
        """
        if self._optimizers and not self._optimizers.take_step():
            return
        self._keep_bases_frozen()
        self.steps += 1
        if self.steps == self.delay:
            self._convert()
        elif self.steps > self.delay and self.steps % self.frequency == 0:
            self._update()

    def _keep_bases_frozen(self) -> None:
        """`model.requires_grad_(True)` means Sigma: U and V are constants of the method."""
        for modules in self._layers.values():
            for basis in (modules[0].u, modules[0].vt):
                if basis.requires_grad:
                    basis.requires_grad_(False)
                    basis.grad = None

    @property
    def ranks(self) -> dict[str, int]:
        """Layer name -> current rank, in the network's order; empty before the conversion."""
        return {layer.name: layer.rank for layer in self.report if layer.rank is not None}

    @property
    def total_percent(self) -> float:
        """All parameters, frozen ones too, in percent of the dense network's ('Compression' in the paper)."""
        return 100 * sum(p.numel() for p in self._network.parameters()) / self._dense_parameters

    @property
    def trainable_percent(self) -> float:
        """Trained parameters in percent of the dense network's parameters."""
        trained = sum(p.numel() for p in self._network.parameters() if p.requires_grad)
        return 100 * trained / self._dense_parameters

    def merge(self) -> nn.Module:
        """Ends low-rank training: two thin matrices per layer, or a dense one where that is cheaper.

        Changes and returns the network, now of plain torch layers; the optimizer no longer fits it.
        """
        follow_all(self._network, self.averages)
        self._layers, self._merged = {}, True
        merge(self._network)
        follow_all(self._network, self.averages)
        return self._network

    def state_dict(self) -> dict[str, Any]:
        """Steps, updates, ranks, and the layers frozen at the change-over: plain numbers and names, no tensors."""
        frozen = [layer.name for layer in self.report if layer.reason == "frozen"]
        return {"steps": self.steps, "updates": self.updates, "ranks": self.ranks, "frozen": frozen}

    @exactly()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where `state_dict` was taken; to be called before the model's and the optimizer's own
        `load_state_dict`, since it gives both the shapes these expect; `averages` as well.

        Raises ValueError where the saved ranks belong to other layers than this network's.
        """
        if state_dict["ranks"] and not self._layers:
            self.report = self._plan()
        names = {plain(layer.name): layer.name for layer in self.report}
        saved = {plain(str(name)): int(rank) for name, rank in state_dict["ranks"].items()}
        ranks = {names.get(name, name): rank for name, rank in saved.items()}
        was_frozen = {plain(str(name)) for name in state_dict.get("frozen", [])}
        for layer in self.report:  # frozen is what was frozen at the saved change-over
            if layer.name in ranks and layer.reason == "frozen":
                layer.reason = ""
            elif plain(layer.name) in was_frozen and not layer.reason:
                layer.reason = "frozen"
        odd = ranks.keys() ^ {layer.name for layer in self.report if not layer.reason}
        if ranks and odd:
            raise ValueError(
                f"the saved state is of other low-rank layers: '{min(odd)}'; check include, exclude, keep_*"
            )
        if self._layers and not ranks:
            raise ValueError("the saved state is of a dense network, this one is low-rank; use the saved delay")
        if ranks and not self._layers:
            self._change_over(reshape(self._network, self.report, ranks, self._optimizers))
        elif ranks:
            for layer in self.report:
                if layer.name in ranks:
                    layer.rank, old = ranks[layer.name], self._sigma(layer.name)
                    self._set_factors(layer.name, *empty_factors(old, layer.shape, layer.rank))
                    self._optimizers.replace(old, self._sigma(layer.name))
            self._settle()
        self.steps, self.updates = int(state_dict["steps"]), int(state_dict["updates"])

    def _plan(self) -> Report:
        """Sigma takes its weight's place in the optimizers; in none of them nothing would train it."""
        report = plan(self._network, **self._selection)
        if not self._optimizers:
            return report
        planned = [layer for layer in report if not layer.reason]
        held, weights = self._optimizers.held(), planned_weights(self._network, report)
        left_out = [layer for layer, weight in zip(planned, weights, strict=True) if id(weight) not in held]
        for layer in left_out:
            layer.reason = "in no optimizer"
        if left_out and not self._warned_of_dense:
            self._warned_of_dense = True
            names = ", ".join(f"'{layer.name}'" for layer in left_out[:3]) + ", ..." * (len(left_out) > 3)
            warnings.warn(
                f"OIALR: no optimizer holds the weights of {len(left_out)} layers ({names}), which stay dense; pass "
                "all optimizers: OIALR(model, [muon, adamw])",
                stacklevel=3,
            )
        return report

    def _warn_without_optimizer(self) -> None:
        if self.optimizer is None and self.steps and not self._warned:
            self._warned = True
            warnings.warn(
                "OIALR has no optimizer: none holds the parameters that it makes from now on; to train them, pass it: "
                "OIALR(model, optimizer)",
                stacklevel=4,
            )

    def _convert(self) -> None:
        self._warn_without_optimizer()
        self.report = self._plan()
        if all(layer.reason for layer in self.report):
            warnings.warn("OIALR: every weight was frozen before the change-over, nothing is low-rank", stacklevel=3)
        self._change_over(convert(self._network, self.report, self._optimizers, self._process_group), self.first_cutoff)

    @exactly()
    def _change_over(self, layers: dict[str, list[LowRank]], cutoff: float = 0.0) -> None:
        self._layers = layers
        self._optimizers.stop_decay()
        if cutoff:
            self._cut([layer for layer in self.report if layer.rank is not None], cutoff)
        self._settle()

    @exactly()
    def _settle(self) -> None:
        """Lets all that hangs on the network's parameters know the new ones."""
        rebuild(self.model)
        follow_all(self._network, self.averages)

    @exactly()
    def _update(self) -> None:
        if self._merged:
            raise RuntimeError("OIALR.step() after merge(): low-rank training has ended, drop the call")
        self._warn_without_optimizer()
        self.updates += 1
        low_rank = [layer for layer in self.report if layer.rank is not None]
        total = len(low_rank)
        # the tolerance makes 10 * 0.1 * 3 three layers, not two
        touched = max(1, min(total, math.floor(total * self.step_fraction * self.updates + 1e-9)))
        self._cut(low_rank[-touched:], self.cutoff)
        self._settle()

    def _cut(self, layers: Sequence[Layer], cutoff: float) -> None:
        for layer in layers:
            if self._sigma(layer.name).requires_grad:
                layer.rank = self._update_layer(layer.name, min(layer.shape), cutoff)

    def _update_layer(self, name: str, full_rank: int, cutoff: float) -> int:
        """Algorithm 1 and the cut of the rank for one layer; returns the new rank."""
        module, sigma = self._layers[name][0], self._sigma(name)
        left, values, right = svd(sigma, name, self._process_group)
        rank = self._kept(values, full_rank, cutoff)
        left, values, right = left[:, :rank], values[:rank], right[:rank]
        u, vt = module.u @ left.to(module.u.dtype), right.to(module.vt.dtype) @ module.vt
        self._set_factors(name, u, torch.diag(values).to(sigma.dtype), vt)
        self._optimizers.replace(sigma, self._sigma(name), left, right.t())
        return rank

    def _kept(self, values: Tensor, full_rank: int, cutoff: float) -> int:
        wanted = number_kept(values, cutoff, self.energy)
        floor = max(1, math.ceil((1 - self.max_cut) * len(values)), math.ceil(self.min_rank * full_rank))
        rounded = math.ceil(max(wanted, floor) / self.rank_multiple) * self.rank_multiple
        return min(rounded, len(values))

    def _sigma(self, name: str) -> Parameter:
        return self._layers[name][0].sigma

    def _set_factors(self, name: str, u: Tensor, sigma: Tensor, vt: Tensor) -> None:
        old = self._layers[name][0]
        factors = successor(u, old.u), successor(sigma, old.sigma), successor(vt, old.vt)
        for module in self._layers[name]:
            module.set_factors(*factors)


def _check(name: str, value: Any, valid: bool, expected: str) -> None:
    if not valid:
        raise ValueError(f"OIALR: {name}={value} must be {expected}")
