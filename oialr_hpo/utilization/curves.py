"""Layers more closely: the energy of W and W', and the accuracy over the dimensions that are kept (paper, Figure 1)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from oialr_hpo.mistake import Mistake, hint
from oialr_hpo.oialr.distributed import unwrapped
from oialr_hpo.utilization.batches import rereadable
from oialr_hpo.utilization.found import LayerCurves, Utilization
from oialr_hpo.utilization.gram import gram_matrices, ordinary_attention
from oialr_hpo.utilization.layers import Layers
from oialr_hpo.utilization.subspace import Subspace, output_gram

POINTS = 16
"""Of a curve of accuracy, besides those where the analysis ended."""


def check_layers(model: nn.Module, loader: Iterable[Any], names: Collection[str]) -> None:
    """Refuse names of layers that the analysis would not look at.

    Raises:
        Mistake: there is one.
    """
    known = Layers.of(copy.deepcopy(unwrapped(model)).eval(), loader).originals if names else {}
    for name in names:
        if name not in known:
            raise Mistake(f"--layers: no layer {name!r};{hint(name, known)} known: {', '.join(known)}")


@ordinary_attention()
@torch.no_grad()
def layer_curves(
    model: nn.Module,
    found: Utilization,
    loader: Iterable[Any],
    evaluate: Callable[[nn.Module], float],
    names: Collection[str],
    progress: Callable[[str], None] = lambda line: None,
) -> list[LayerCurves]:
    """Curves of some layers: a validation pass for each point, 16 and one or two more for each subspace.

    Args:
        model: left as it is, as the arguments of `analyse` that have the same names.
        found: by `analyse`, of it.
        names: of layers that were analysed.
    """
    network = copy.deepcopy(unwrapped(model)).eval()
    loader = rereadable(loader)
    layers = Layers.of(network, loader)
    grams = gram_matrices(network, {name: layers.modules[name] for name in names}, loader) if names else {}
    curves = []
    for layer in (layer for name in names for layer in found.layers if layer.name == name):
        progress(f"{layer.name}: accuracy over k")
        original = layers.originals[layer.name]
        weight, gram = original.flatten(1), grams[layer.name]
        inputs, outputs = Subspace.of(gram, layer.name), Subspace.of(output_gram(gram, weight), layer.name)
        onto_inputs, onto_outputs = inputs.projections(weight.t()), outputs.projections(weight)

        def accuracy(projection: Tensor, name: str = layer.name) -> float:
            layers.put(name, projection)
            reached = evaluate(network)
            network.eval()
            return reached

        (m, d), projected = layer.shape, found.model.get_submodule(layer.name).get_parameter("weight")
        curves.append(
            LayerCurves(
                name=layer.name,
                energy=_energy(weight),
                projected_energy=_energy(projected.flatten(1)),
                onto_inputs=[(k, accuracy(onto_inputs(k).t())) for k in dimensions(d, layer.k_s)],
                onto_outputs=[(k, accuracy(onto_outputs(k))) for k in dimensions(m, layer.k_t)],
            )
        )
        layers.put(layer.name, original)
    return curves


def dimensions(size: int, found: int) -> list[int]:
    """From 1 to `size` in equal ratios, `found` among them."""
    return sorted({*(round(size ** (step / (POINTS - 1))) for step in range(POINTS)), found})


def _energy(weight: Tensor) -> list[float]:
    squares = torch.linalg.svdvals(weight.double()).square()
    return (squares.cumsum(0) / squares.sum().clamp(min=torch.finfo(torch.float64).tiny)).tolist()
