"""The subspaces that a layer's inputs and outputs live on, and its weight projected onto them (paper, section 2).

W is m x d, X the inputs (B x d), Y = X W^T the outputs (B x m). S, of dimension k_S, is spanned by the leading right
singular vectors of X, T, of dimension k_T, by those of Y: W' = P_T W P_S.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

ENERGY = 0.9999
"""The share of its squared singular values that makes a matrix's rank (paper, section 3)."""


@dataclass(frozen=True)
class Subspace:
    """Nested subspaces: the first k columns of `basis` span the best of dimension k.

    Attributes:
        basis: (d, d), orthonormal columns, float64.
        energy: (d,), the squared singular values of the data, descending, float64.
    """

    basis: Tensor
    energy: Tensor

    @classmethod
    def of(cls, gram: Tensor, layer: str) -> Subspace:
        """From a Gram matrix (d x d).

        Raises:
            FloatingPointError: it holds NaN or infinity.
        """
        if not torch.isfinite(gram).all():
            raise FloatingPointError(f"layer '{layer}': its inputs or its weight hold NaN or infinity")
        try:
            energy, basis = torch.linalg.eigh(gram)
        except torch.linalg.LinAlgError:  # of the GPU's solver, for badly scaled matrices
            energy, basis = (part.to(gram.device) for part in torch.linalg.eigh(gram.cpu()))
        return cls(basis.flip(1).contiguous(), energy.flip(0).clamp(min=0))

    def share(self, k: int) -> float:
        """e: the share of the energy within the first k dimensions."""
        total = self.energy.sum()
        return (self.energy[:k].sum() / total).item() if total > 0 else 1.0

    def dimension(self, share: float) -> int:
        """The smallest k with at least that share of the energy."""
        return _leading(self.energy, share)

    def projections(self, matrix: Tensor) -> Callable[[int], Tensor]:
        """k -> P matrix (d x n), P the projection onto the first k dimensions, in the matrix's own dtype."""
        basis = self.basis.to(matrix.dtype)
        coordinates = (self.basis.t() @ matrix.double()).to(matrix.dtype)

        def projection(k: int) -> Tensor:
            if 2 * k <= len(basis):
                return basis[:, :k] @ coordinates[:k]
            return matrix - basis[:, k:] @ coordinates[k:]

        return projection


def output_gram(gram: Tensor, weight: Tensor) -> Tensor:
    """Y^T Y = W G W^T (m x m)."""
    weight = weight.double()
    result = weight @ gram @ weight.t()
    return (result + result.t()) / 2


def projected(weight: Tensor, inputs: Subspace, k_s: int, outputs: Subspace, k_t: int) -> Tensor:
    """W' = P_T W P_S (equation 9), float64."""
    onto_inputs = inputs.projections(weight.double().t())(k_s).t()
    return outputs.projections(onto_inputs)(k_t)


def rank(weight: Tensor, energy: float = ENERGY) -> int:
    """The number of singular values that hold that share of the energy; 0 for zeros."""
    squares = torch.linalg.svdvals(weight.double()).square()
    return _leading(squares, energy) if squares.sum() > 0 else 0


def error(gram: Tensor, weight: Tensor, projection: Tensor) -> float:
    """|X W^T - X W'^T|^2 in the Frobenius norm (equation 10), from the Gram matrix alone."""
    difference = weight.double() - projection.double()
    return max(0.0, torch.einsum("ij,jk,ik->", difference, gram, difference).item())


def error_bound(gram: Tensor, weight: Tensor, e_s: float, e_t: float) -> float:
    """(1 - e_T) |Y|^2 + (1 - e_S) |X|^2 |W|^2, which `error` cannot exceed (equations 11 and 30)."""
    outputs = output_gram(gram, weight).trace()
    spread = gram.trace() * weight.double().square().sum()
    return ((1 - e_t) * outputs + (1 - e_s) * spread).item()


def _leading(energy: Tensor, share: float) -> int:
    cumulative = energy.cumsum(0)
    return min(len(energy), int((cumulative < share * cumulative[-1]).sum()) + 1)
