"""How much a network's weights turned, and how much they were mixed anew, since some epochs before.

Two measures per weight matrix W (OIALR paper, equations 4 and 5), drawn in its Figure 1:

- Stability compares the polar factors U V^T of both times: tr((U V^T)_i (U V^T)_j^T) / rank. One means the same
  bases. The paper divides by m, which a tall matrix cannot reach; the trace ends at the rank, which is min(m, n)
  for a dense W. Where W has lost rank, the larger rank of both times counts, so that a cut shows as a dip which is
  over once both times lie behind it.
- Similarity compares the triangular R of the QR decomposition of both times: 1 - |R_i - R_j| / sqrt(m n) in the
  Frobenius norm, with R's diagonal positive, which makes it unique. A wide W is transposed, so that R is
  min(m, n) x min(m, n).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from oialr_hpo.oialr.decomposition import exactly
from oialr_hpo.oialr.distributed import unwrapped
from oialr_hpo.oialr.layers import LowRank
from oialr_hpo.oialr.planning import plan

DIGITS = 6  # of the values: beyond them float16 and float32 show
ABSENT = 1e-14  # squared singular values below this share of the largest are rounding errors of a missing rank


class Tracker:
    """Compares every tracked weight with itself `lag` observations before, in dense and low-rank training alike.

        tracker = Tracker(model, lag=5)                  # before OIALR converts, or Tracker(model, oialr.ranks, lag=5)
        for epoch in ...:
            ...
            print(tracker.observe())

    Arguments:
        model: any network, also inside DistributedDataParallel.
        layers: names of the layers to track, as in OIALR's report; by default all that OIALR would convert.
        lag: how far to look back, in calls of `observe` (paper: 5 epochs).

    Nothing is computed between two observations. One costs, per weight, a QR decomposition and an eigendecomposition
    of size min(m, n); of a low-rank layer, of its rank. In CPU memory are held, for each of `lag` observations and
    each weight, m n float16 and min(m, n)^2 (low-rank: r min(m, n)) float32 numbers; float16 leaves stability exact
    to about 0.0005 / sqrt(m n).

    Raises ValueError for a `lag` below one, AttributeError for a layer that the network lacks, and FloatingPointError
    naming the layer where a weight is not finite.
    """

    def __init__(self, model: nn.Module, layers: Iterable[str] | None = None, lag: int = 5) -> None:
        if lag < 1:
            raise ValueError(f"Tracker: lag={lag} must be 1 or more")
        self._network = unwrapped(model)
        chosen = [layer.name for layer in plan(self._network) if not layer.reason] if layers is None else layers
        self.layers = list(chosen)
        self.seconds = 0.0
        self._history: deque[dict[str, _Snapshot]] = deque(maxlen=lag)
        self.observe()

    @exactly()
    def observe(self) -> dict[str, dict[str, float]]:
        """`stability` and `similarity` by layer name, between now and `lag` calls before; empty before that.

        The construction counts as the first observation. `seconds` adds up the time of all.
        """
        started = time.perf_counter()
        now = {name: _snapshot(name, *_factors(self._network, name)) for name in self.layers}
        values: dict[str, dict[str, float]] = {}
        if len(self._history) == self._history.maxlen:
            before = self._history[0]
            pairs = {name: (snapshot, before[name]) for name, snapshot in now.items()}
            values["stability"] = {name: _stability(*pair) for name, pair in pairs.items()}
            values["similarity"] = {name: _similarity(*pair) for name, pair in pairs.items()}
        self._history.append(now)
        self.seconds += time.perf_counter() - started
        return values

    def state_dict(self) -> dict[str, Any]:
        """What was observed, as tensors by layer name, oldest first."""
        return {"history": [{name: tuple(seen) for name, seen in each.items()} for each in self._history]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where `state_dict` was taken."""
        self._history.clear()
        for each in state_dict["history"]:
            self._history.append({name: _Snapshot(*seen) for name, seen in each.items()})


class _Snapshot(NamedTuple):
    """polar: U V^T (m x n), float16; mixing: R without its zero rows, float32; both on the CPU."""

    polar: Tensor
    mixing: Tensor
    rank: int


def _factors(network: nn.Module, name: str) -> tuple[Tensor, Tensor, Tensor] | tuple[Tensor]:
    """U, Sigma and V^T of a low-rank layer, or the weight (m x n) of a dense one."""
    parent, _, part = name.rpartition(".")
    owner = network.get_submodule(parent)
    fused = owner._parameters.get(f"{part}_weight", owner._parameters.get(part))
    if fused is not None:
        return (fused.detach().flatten(1),)
    layer = network.get_submodule(name)
    if isinstance(layer, LowRank):
        return layer.u.detach(), layer.sigma.detach().to(layer.u.dtype), layer.vt.detach()
    weight: Any = layer.weight  # of two thin layers their product
    return (weight.detach().flatten(1),)


def _snapshot(name: str, *factors: Tensor) -> _Snapshot:
    core = factors[len(factors) // 2]
    if not torch.isfinite(core).all():
        raise FloatingPointError(
            f"layer '{name}': its weight holds NaN or infinity (training diverged); lower the learning rate"
        )
    if len(factors) == 1:
        core = core.to(torch.promote_types(core.dtype, torch.float32))
        tall = core if core.shape[0] >= core.shape[1] else core.t()
        mixing = _mixing(tall)
        inverse_root, rank = _inverse_root(mixing)
        polar = tall @ inverse_root
        polar = polar if tall is core else polar.t()
    else:
        u, sigma, vt = factors
        inverse_root, rank = _inverse_root(sigma)
        polar = u @ (sigma @ inverse_root) @ vt
        mixing = _mixing(sigma @ vt if u.shape[0] >= vt.shape[1] else sigma.t() @ u.t())
    return _Snapshot(polar.to("cpu", torch.float16).contiguous(), mixing.to("cpu", torch.float32), rank)


def _mixing(matrix: Tensor) -> Tensor:
    """R of the QR decomposition, with a positive diagonal."""
    r = torch.linalg.qr(matrix, mode="r").R
    return torch.where(r.diagonal() < 0, -1.0, 1.0).to(r.dtype).unsqueeze(1) * r


def _inverse_root(matrix: Tensor) -> tuple[Tensor, int]:
    """(A^T A)^(-1/2), which takes A to its polar factor U V^T, in A's dtype; and A's rank.

    The Gram matrix squares the condition number, hence float64.
    """
    gram = matrix.double()
    squares, v = torch.linalg.eigh(gram.t() @ gram)
    present = squares > ABSENT * squares[-1]
    scale = torch.where(present, squares, torch.inf).rsqrt()
    return ((v * scale) @ v.t()).to(matrix.dtype), int(present.sum())


def _stability(now: _Snapshot, before: _Snapshot) -> float:
    trace = torch.dot(now.polar.float().flatten(), before.polar.float().flatten())
    return round(min(1.0, trace.item() / max(now.rank, before.rank, 1)), DIGITS)


def _similarity(now: _Snapshot, before: _Snapshot) -> float:
    larger, smaller = sorted((now.mixing, before.mixing), key=len, reverse=True)
    rows = len(smaller)
    distance = torch.linalg.vector_norm(larger[:rows] - smaller).hypot(torch.linalg.vector_norm(larger[rows:]))
    return round(1 - distance.item() / now.polar.numel() ** 0.5, DIGITS)
