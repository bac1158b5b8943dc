"""The singular value decomposition behind every conversion and update: checked, with a fallback."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor

from oialr_hpo.oialr.distributed import from_first_rank


@contextlib.contextmanager
def exactly() -> Iterator[None]:
    """Outside of autograd, of inference mode and of autocast, whatever is on where weights and bases are changed."""
    kinds = ["cpu", *{kind for kind in ("cuda", "xpu", "mps") if torch.is_autocast_enabled(kind)}]
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        for kind in kinds:
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def svd(matrix: Tensor, layer: str, group: dist.ProcessGroup | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Compact SVD (U, singular values, V^T) in float32 or float64, never part of autograd.

    With `group`, every process gets its first rank's bits. Where the default driver does not converge, falls
    back to `gesvd` (GPU), then to float64 on the CPU, with a warning. Raises FloatingPointError naming `layer`
    where `matrix` holds NaN or infinity.
    """
    return from_first_rank(_converging_svd(_finite(matrix, layer), layer), group)


def svd_with_free_bases(
    matrix: Tensor, layer: str, group: dist.ProcessGroup | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """`svd` of a weight (m x n) that is to be trained in its bases; where it lacks rank these are completed.

    The columns of U and V that belong to no singular value are arbitrary. LAPACK's are often unit vectors: by them a
    zero weight (adaLN-zero, LoRA's B, zero-initialised heads) moves in min(m, n) of its rows only. They become random
    directions, orthonormal to the others, the same in every call.
    """
    u, s, vt = _converging_svd(_finite(matrix, layer), layer)
    rank = int((s > s[0] * max(matrix.shape) * torch.finfo(s.dtype).eps).sum())
    if rank < len(s):
        s = torch.cat([s[:rank], torch.zeros_like(s[rank:])])
        generator = torch.Generator().manual_seed(0)
        u = _completed(u[:, :rank], len(s), generator)
        vt = _completed(vt[:rank].t(), len(s), generator).t()
    return from_first_rank((u, s, vt), group)


def number_kept(values: Tensor, cutoff: float, energy: float) -> int:
    """How many singular values, given from the largest on, are at least `cutoff` times the largest, but no more of them
    than hold the share `energy` of the sum of all squares."""
    above = int((values >= cutoff * values[0]).sum())
    if energy == 1:
        return above
    held = values.double().square().cumsum(0)
    return min(above, 1 + int((held < energy * held[-1]).sum()))


def _completed(basis: Tensor, columns: int, generator: torch.Generator) -> Tensor:
    """Orthonormal columns, continued by random ones to `columns`."""
    shape = len(basis), columns - basis.shape[1]
    random = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu").to(basis)
    for _ in range(2):
        random = torch.linalg.qr(random - basis @ (basis.t() @ random))[0]
    return torch.cat([basis, random], 1)


def _finite(matrix: Tensor, layer: str) -> Tensor:
    matrix = matrix.detach()
    if matrix.dtype not in (torch.float32, torch.float64):
        matrix = matrix.float()
    if not torch.isfinite(matrix).all():
        raise FloatingPointError(
            f"layer '{layer}': its weight holds NaN or infinity (training diverged); lower the learning rate"
        )
    return matrix


def _converging_svd(matrix: Tensor, layer: str) -> tuple[Tensor, Tensor, Tensor]:
    try:
        return torch.linalg.svd(matrix, full_matrices=False)
    except torch.linalg.LinAlgError:
        warnings.warn(f"layer '{layer}': SVD did not converge, falling back", stacklevel=3)
    if matrix.is_cuda:
        with contextlib.suppress(torch.linalg.LinAlgError):
            return torch.linalg.svd(matrix, full_matrices=False, driver="gesvd")
    u, s, vt = torch.linalg.svd(matrix.double().cpu(), full_matrices=False)
    return u.to(matrix), s.to(matrix), vt.to(matrix)
