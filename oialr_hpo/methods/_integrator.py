"""One weight of DLRT through the substeps of a step: U S V^T, K V^T, U L^T (arXiv:2205.13571, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import Parameter

from oialr_hpo.oialr.conversion import empty_factors, frozen
from oialr_hpo.oialr.decomposition import exactly, svd
from oialr_hpo.oialr.distributed import from_first_rank
from oialr_hpo.oialr.layers import LowRank
from oialr_hpo.oialr.optimizers import Optimizers

LEAST = 2  # rank that no tolerance goes below


class Integrator:
    """The factors of one weight, and its place in the optimizers.

    Args:
        name: of the layer, for errors.
        modules: of the network at full rank, several where the weight is tied.
        rank: at the start and at most.
        tolerance: of the cut after a step; None keeps the rank.
        optimizers: S has its weight's place in them, to which K and L^T are added.
        group: of processes that train the network together.

    Attributes:
        u, s, vt: U (m x r), S (r x r) and V^T (r x n) between steps.
        k, lt: K (m x r) and L^T (r x n). Between steps the optimizers have their states, and they no values.
    """

    def __init__(
        self,
        name: str,
        modules: Sequence[LowRank],
        rank: int,
        tolerance: float | None,
        optimizers: Optimizers,
        group: Any = None,
    ) -> None:
        self.name, self.most, self.tolerance = name, rank, tolerance
        self._modules, self._optimizers, self._group = modules, optimizers, group
        full = modules[0]
        self.s = full.sigma
        self.shape = len(full.u), full.vt.shape[1]
        self._in_bases(full.u[:, :rank], full.sigma[:rank, :rank], full.vt[:rank])
        self.k, self.lt = Parameter(self.u.detach().clone()), Parameter(self.vt.detach().clone())
        optimizers.add_beside(self.s, self.k, self.lt)

    @exactly()
    def to_k(self) -> Parameter:
        """The network has K V^T, and the optimizers are to move K = U S."""
        self.k.copy_(self.u @ self.s.to(self.u))
        self._show(self.k, self._identity(), self.vt)
        return self.k

    @exactly()
    def to_l(self) -> Parameter:
        """The network has U L^T, of which the optimizers are to move L^T = S V^T."""
        self.lt.copy_(self.s.to(self.vt) @ self.vt)
        self._show(self.u, self._identity(), self.lt)
        return self.lt

    @exactly()
    def to_s(self) -> None:
        """The network has W in the bases that K and L have found, and the optimizers are to move S."""
        u: Tensor = self.k
        v: Tensor = self.lt.t()
        if self.tolerance is not None:
            u, v = torch.cat([self.u, u], 1), torch.cat([self.vt.t(), v], 1)
        u, v = torch.linalg.qr(u)[0], torch.linalg.qr(v)[0]
        u, _, v = from_first_rank((u, self.s, v), self._group)
        left, right = self.u.t() @ u, self.vt @ v
        self._before = self.u, self.vt
        self._in_bases(u, left.t() @ self.s.to(u) @ right, v.t(), left, right)

    @exactly()
    def truncate(self) -> None:
        """The smallest singular values are dropped, and what the optimizers know goes on in the new bases.

        Raises:
            FloatingPointError: S is not finite.
        """
        if self.tolerance is not None:
            left, values, right = svd(self.s, self.name, self._group)
            rank = min(max(needed(values, self.tolerance), LEAST), self.most)
            left, values, right = left[:, :rank], values[:rank], right[:rank].t()
            self._in_bases(self.u @ left, values.diag(), right.t() @ self.vt, left, right)
        u, vt = self._before
        k, lt = Parameter(torch.zeros_like(self.u)), Parameter(torch.zeros_like(self.vt))
        self._succeed(self.k, k, None, vt @ self.vt.t())
        self._succeed(self.lt, lt, u.t() @ self.u, None)
        self.k, self.lt = k, lt

    @exactly()
    def take_rank(self, rank: int) -> None:
        """The shapes of this rank, for values to be loaded."""
        self._in_bases(*empty_factors(self.s, self.shape, rank))
        k, lt = Parameter(torch.zeros_like(self.u)), Parameter(torch.zeros_like(self.vt))
        self._optimizers.replace(self.k, k)
        self._optimizers.replace(self.lt, lt)
        self.k, self.lt = k, lt

    def _in_bases(
        self, u: Tensor, s: Tensor, vt: Tensor, left: Tensor | None = None, right: Tensor | None = None
    ) -> None:
        """U S V^T in the network; S is left^T S right of the one before, in the optimizers too."""
        before, self.s = self.s, Parameter(s.detach().to(self.s.dtype).contiguous())
        self.u, self.vt = frozen(u.detach()), frozen(vt.detach())
        self._show(self.u, self.s, self.vt)
        self._succeed(before, self.s, left, right)

    def _succeed(self, old: Parameter, new: Parameter, left: Tensor | None, right: Tensor | None) -> None:
        """Momentum goes on; where there are second moments as well the next step is a first one."""
        bases = (None, None) if self._optimizers.knows_second_moments(old) else (left, right)
        self._optimizers.replace(old, new, *bases)

    def _show(self, u: Parameter, s: Parameter, vt: Parameter) -> None:
        for module in self._modules:
            module.set_factors(u, s, vt)

    def _identity(self) -> Parameter:
        return frozen(torch.eye(len(self.s), dtype=self.s.dtype, device=self.s.device))


def needed(values: Tensor, tolerance: float) -> int:
    """How many of the singular values (in descending order) stay if the others' norm is to be at most `tolerance` times
    the norm of all."""
    tails = values.square().flip(0).cumsum(0).flip(0).sqrt()  # of all values from i on
    return int((tails > tolerance * tails[0]).sum())
