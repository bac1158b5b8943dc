"""What a trial's method has left of each layer, as the records of its epochs say it: ranks, widths or densities."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from oialr_hpo.methods import FULL, OF_LAYERS, OfLayers

ONE = {"ranks": "rank", "widths": "width", "densities": "density"}
"""Of a single layer."""


def kind(record: Mapping[str, Any]) -> OfLayers:
    """Which of the three a record has; ranks where it has none."""
    return next((kind for kind in OF_LAYERS if record.get(kind)), OF_LAYERS[0])


def kept(record: Mapping[str, Any]) -> dict[str, Any]:
    """What is left of each layer; empty before the change-over."""
    return record.get(kind(record)) or {}


def full(records: Sequence[Mapping[str, Any]], layers: Iterable[str]) -> dict[str, Any]:
    """What layers had in the dense network: by a trial's first record, else the most that they ever had."""
    said: Mapping[str, Any] = next((records[0][name] for name in FULL if records[0].get(name)), {})
    most = {layer: max(kept(record).get(layer, 1) for record in records) for layer in layers}
    return most | {layer: said[layer] for layer in most.keys() & said.keys()}
