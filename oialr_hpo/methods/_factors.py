"""Layers that become two at some step of a training, W = P Q with both matrices trained."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.parameter import Parameter

from oialr_hpo.methods import Loop
from oialr_hpo.oialr import plan
from oialr_hpo.oialr.averages import copy_in
from oialr_hpo.oialr.conversion import empty_factors, unfuse
from oialr_hpo.oialr.decomposition import exactly
from oialr_hpo.oialr.distributed import check_whole, rebuild, unwrapped
from oialr_hpo.oialr.layers import become
from oialr_hpo.oialr.merging import Thin, thin_layer
from oialr_hpo.oialr.optimizers import Optimizers
from oialr_hpo.oialr.planning import Layer
from oialr_hpo.oialr.recurrent import RECURRENT


class Factors:
    """The layers of a network that a method may turn into two, at full rank as yet.

    They are those that OIALR would convert, but for the matrices of recurrent layers, which no two layers can replace.

    Args:
        method: its name, for errors.
        loop: the training; its network is changed in place.
        keep_first, keep_last: the network's first or last projection stays dense.

    Attributes:
        weights: of the layers by name, also of those that are two by now. Behind the first dimension a weight is
            flattened to an m x n matrix.
        optimizers: of the training.
        thin: the layers that are two by now, by name, in the network's order.

    Raises:
        ValueError: there are none.
        TypeError: the optimizer cannot follow weights that are replaced, or an average is none of this network.
    """

    def __init__(self, method: str, loop: Loop, *, keep_first: bool = False, keep_last: bool = False) -> None:
        self._loop, self._network = loop, unwrapped(loop.model)
        check_whole(loop.model)
        report = plan(self._network, keep_first=keep_first, keep_last=keep_last)
        self._layers = [layer for layer in report if not layer.reason and not self._recurrent(layer)]
        if not self._layers:
            between = " between its first and its last" if keep_first and keep_last else ""
            raise ValueError(f"{method}: {type(self._network).__name__} has no layer{between} to make two of")
        self.weights = {layer.name: self._network.get_parameter(layer.parameter) for layer in self._layers}
        self.optimizers = Optimizers(loop.optimizer, method)
        self.optimizers.check(self.weights.values())
        self._averages = [copy_in(average, self._network) for average in loop.averages]
        self.thin: dict[str, Thin] = {}

    def _recurrent(self, layer: Layer) -> bool:
        return isinstance(self._network.get_submodule(layer.name.rpartition(".")[0]), RECURRENT)

    @property
    def full_ranks(self) -> dict[str, int]:
        """min(m, n) of every layer."""
        return {layer.name: min(layer.shape) for layer in self._layers}

    @property
    def ranks(self) -> dict[str, int]:
        """Of the layers that are two by now."""
        return {name: len(thin.down.get_parameter("weight")) for name, thin in self.thin.items()}

    @exactly()
    def replace(self, factors: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Layers of these names become two: P (m x r) and Q (r x n), in any precision. To be called once.

        In the optimizer both are in the weight's group and have no state yet: what it knows of W has no exact place in
        P and Q. The averages begin anew with the network as it is then, since products of averages are no averages of
        products. Of several processes all get the first one's values; their ranks are to be the same.
        """
        chosen = [layer for layer in self._layers if layer.name in factors]
        self.thin = _put(self._network, chosen, factors)
        for name, thin in self.thin.items():
            down, up = thin.down.get_parameter("weight"), thin.up.get_parameter("weight")
            self.optimizers.replace(self.weights[name], up)
            self.optimizers.add_beside(up, down)
            self.optimizers.start_momentum((up, down))
        rebuild(self._loop.model)
        for average in self._averages:
            _put(average, chosen, factors)
            average.load_state_dict(self._network.state_dict())

    def take_ranks(self, ranks: Mapping[str, int]) -> None:
        """The shapes that a network with these ranks has; the values are zeros, to be loaded."""
        factors = {}
        for layer in self._layers:
            if layer.name in ranks:
                p, _, q = empty_factors(self.weights[layer.name], layer.shape, ranks[layer.name])
                factors[layer.name] = p, q
        self.replace(factors)


def _put(network: nn.Module, layers: list[Layer], factors: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Thin]:
    """Two layers in the place of each; tied ones share both."""
    unfuse(network, layers)
    put: dict[str, Thin] = {}
    for layer in layers:
        p, q = factors[layer.name]
        twin: Thin | None = None
        for name in layer.users:
            dense = network.get_submodule(name)
            like: Parameter = dense.get_parameter("weight")
            twin = thin_layer(dense, q.to(like, copy=True), p.to(like, copy=True), twin)
            become(dense, twin)
        thin = network.get_submodule(layer.name)
        assert isinstance(thin, Thin)
        put[layer.name] = thin
    return put
