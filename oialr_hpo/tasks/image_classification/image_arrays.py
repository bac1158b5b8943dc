"""Labelled images as arrays."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Part = Literal["train", "test"]


@dataclass(frozen=True)
class ImageArrays:
    """One split of a data set, sorted by class and file name.

    Attributes:
        images: (N, H, W, C) uint8, read-only; a `numpy.memmap` unless the data set is tiny.
        labels: (N,) int64, indices into `classes`.
        classes: names, in alphabetical order.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
