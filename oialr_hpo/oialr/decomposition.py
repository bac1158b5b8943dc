"""The singular value decomposition behind every conversion and update: checked, with a fallback."""

from __future__ import annotations

import contextlib
import warnings

import torch
import torch.distributed as dist
from torch import Tensor

from oialr_hpo.oialr.distributed import from_first_rank


def svd(matrix: Tensor, layer: str, group: dist.ProcessGroup | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Compact SVD (U, singular values, V^T) in float32 or float64, never part of autograd.

    With `group`, every process gets its first rank's bits. Where the default driver does not converge, falls
    back to `gesvd` (GPU), then to float64 on the CPU, with a warning. Raises FloatingPointError naming `layer`
    where `matrix` holds NaN or infinity.
    """
    matrix = matrix.detach()
    if matrix.dtype not in (torch.float32, torch.float64):
        matrix = matrix.float()
    if not torch.isfinite(matrix).all():
        raise FloatingPointError(
            f"layer '{layer}': its weight holds NaN or infinity (training diverged); lower the learning rate"
        )
    return from_first_rank(_converging_svd(matrix, layer), group)


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
