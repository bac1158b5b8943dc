"""What a trial's method has left of each layer, as the records of its epochs say it: ranks, widths or densities."""

from collections.abc import Mapping
from typing import Any

from oialr_hpo.methods import FULL, OF_LAYERS, OfLayers


def kind(record: Mapping[str, Any]) -> OfLayers:
    """Which of the three a record has; ranks where it has none."""
    return next((kind for kind in OF_LAYERS if record.get(kind)), OF_LAYERS[0])


def kept(record: Mapping[str, Any]) -> dict[str, Any]:
    """What is left of each layer; empty before the change-over."""
    return record.get(kind(record)) or {}


def full(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the layers had in the dense network, by the first record of a trial."""
    return next((record[name] for name in FULL if record.get(name)), {})
