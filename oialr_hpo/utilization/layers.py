"""Which layers of a network are analysed: Linear and Conv layers, in the order in which data meet them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from oialr_hpo.oialr import plan
from oialr_hpo.oialr.conversion import unfuse
from oialr_hpo.oialr.planning import Layer
from oialr_hpo.utilization.batches import first
from oialr_hpo.utilization.gram import rows_per_image


@dataclass(frozen=True)
class Layers:
    """By their names, in the order of the forward pass.

    Attributes:
        plans: what each is.
        modules: that use its weight; several where it is tied.
        weights: m x d, a convolution's kernel not flattened.
        originals: copies of these.
        rows: of its inputs X that one input of the network makes.
        skipped: the other weight matrices, each with the reason.
    """

    plans: dict[str, Layer]
    modules: dict[str, list[nn.Module]]
    weights: dict[str, nn.Parameter]
    originals: dict[str, Tensor]
    rows: dict[str, float]
    skipped: dict[str, str]

    @classmethod
    def of(cls, network: nn.Module, loader: Iterable[Any]) -> Layers:
        """Those that the first batch of `loader` meets; attention's projections become modules of `network`.

        Raises:
            ValueError: there is none, or no batch.
        """
        report = plan(network)
        chosen = [layer for layer in report if layer.reason in ("", "frozen") and _rows_are_known(network, layer)]
        skipped = {
            layer.name: layer.reason or f"{layer.kind} is not analysed" for layer in report if layer not in chosen
        }
        if not chosen:
            raise ValueError(f"analyse: {type(network).__name__} has no Linear or Conv layer")
        unfuse(network, chosen)
        modules = {layer.name: [network.get_submodule(name) for name in layer.users] for layer in chosen}
        rows = rows_per_image(network, modules, first(loader))
        skipped |= {name: "no data reach it" for name in modules if name not in rows}
        planned = {layer.name: layer for layer in chosen}
        order = [name for name in rows if name in planned]
        if not order:
            raise ValueError(f"analyse: {type(network).__name__} has no Linear or Conv layer that its data reach")
        weights = {name: modules[name][0].get_parameter("weight") for name in order}
        return cls(
            plans={name: planned[name] for name in order},
            modules={name: modules[name] for name in order},
            weights=weights,
            originals={name: weight.detach().clone() for name, weight in weights.items()},
            rows=rows,
            skipped=skipped,
        )

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def share_from(self) -> dict[str, float]:
        """Of all these layers' multiplications, the share from each layer on, in [0, 1]."""
        work = {name: self.rows[name] * weight.numel() for name, weight in self.weights.items()}
        order = list(work)
        return {name: sum(work[later] for later in order[at:]) / sum(work.values()) for at, name in enumerate(order)}

    def put(self, name: str, matrix: Tensor) -> None:
        """Set a layer's weight to a matrix (m x d)."""
        self.weights[name].data.copy_(matrix.view_as(self.weights[name]))

    def put_all(self, values: dict[str, Tensor]) -> None:
        for name, weight in self.weights.items():
            weight.data.copy_(values[name])


def _rows_are_known(network: nn.Module, layer: Layer) -> bool:
    owner = network.get_submodule(layer.parameter.rpartition(".")[0])
    return isinstance(owner, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.MultiheadAttention))
