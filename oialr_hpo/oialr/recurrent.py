"""`nn.LSTM`, `nn.GRU`, `nn.RNN` and their cells with matrices that may be low-rank.

Their kernels take whole matrices: W = U Sigma V^T is rebuilt at every call. That trains and holds as little as
elsewhere, and is no faster than dense.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from oialr_hpo.oialr.layers import Matrix, Shell

RECURRENT = (nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell)


def matrix_names(dense: nn.Module) -> list[str]:
    """The names of the matrices of a recurrent layer."""
    names = dense._flat_weights_names if isinstance(dense, nn.RNNBase) else ["weight_ih", "weight_hh"]
    return [name for name in names if name.startswith("weight")]


class Recurrent(nn.Module):
    """A recurrent layer whose matrices are `Matrix` or `LowRankMatrix`, by the names of their parameters.

    Takes over the parameters of `dense` and its call: same arguments, same results.
    """

    def __init__(self, dense: nn.Module) -> None:
        super().__init__()
        self.shell = Shell(dense)
        for name in ("_flat_weights", "_flat_weight_refs"):
            self.shell.settings.pop(name, None)
        vars(self).update(self.shell.settings)
        self.matrices = matrix_names(dense)
        for name, parameter in dense._parameters.items():
            if parameter is not None and name in self.matrices:
                self.add_module(name, Matrix(parameter))
            else:
                self.register_parameter(name, parameter)
        self.train(dense.training)

    @torch._disable_dynamo
    def forward(self, *arguments: Any, **named: Any) -> Any:
        return self._around(self._weights())(*arguments, **named)

    def _weights(self) -> dict[str, Any]:
        matrices = {name: getattr(self, name) for name in self.matrices}
        return {**self._parameters, **{name: matrix.weight for name, matrix in matrices.items()}}

    def flatten_parameters(self) -> None:
        """Nothing to do: rebuilt matrices are never one block of memory."""

    def merged(self) -> nn.Module:
        """The plain torch layer around the present dense matrices."""
        dense = self._around({})
        for name, weight in self._weights().items():
            dense.register_parameter(name, weight)
        if isinstance(dense, nn.RNNBase):
            dense._init_flat_weights()
        return dense

    def _around(self, weights: Mapping[str, Any]) -> Any:
        dense: Any = self.shell.kind.__new__(self.shell.kind)
        nn.Module.__init__(dense)
        vars(dense).update(self.shell.settings_of(self), training=self.training, **weights)
        if isinstance(dense, nn.RNNBase):
            names = dense._flat_weights_names
            vars(dense)["_flat_weights"] = [weights.get(name) for name in names]
            vars(dense)["_flat_weight_refs"] = [None] * len(names)
        return dense

    def extra_repr(self) -> str:
        kind: Any = self.shell.kind
        return kind.extra_repr(self)
