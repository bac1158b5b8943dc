"""What the analysis reads: batches of inputs, and of inputs with labels; what is none of these is said in one line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

Batch = TypeVar("Batch")


def rereadable(batches: Iterable[Batch]) -> Iterable[Batch]:
    """Batches that can be read several times: those of an iterator or a generator are kept in a list.

    Raises:
        ValueError: it is nothing to be read.
    """
    if not isinstance(batches, Iterable) and not hasattr(batches, "__getitem__"):
        raise ValueError(f"a {type(batches).__name__} holds no batches; give a list of them, or a DataLoader")
    return list(batches) if isinstance(batches, Iterator) else batches


def inputs(batch: Any) -> Tensor:
    """The inputs (B, ...) in a batch, which is these alone, or a tuple or list that begins with them.

    Raises:
        ValueError: it is something else, or a single sample.
    """
    parts = tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)
    x: Any = parts[0] if parts else None
    if not isinstance(x, Tensor):
        raise ValueError(f"a batch is a tensor of inputs, or a tuple or list that begins with it, not {_kinds(batch)}")
    if x.dim() == 0 or len(parts) > 1 and _is_number(parts[1]):
        raise ValueError("one sample is no batch; give batches, such as those of a DataLoader")
    return x


def first(batches: Iterable[Any]) -> Any:
    """The first batch that is not empty.

    Raises:
        ValueError: there is none.
    """
    for batch in batches:
        if len(inputs(batch)):
            return batch
    raise ValueError("the loader gives no inputs; is its data set empty?")


def labelled(batches: Iterable[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs (B, ...) and labels (B,), whole numbers, of each batch that is not empty.

    Raises:
        ValueError: a batch holds something else.
    """
    for batch in batches:
        images = inputs(batch)
        if isinstance(batch, Tensor) or len(batch) < 2 or not isinstance(batch[1], Tensor):
            raise ValueError(f"Accuracy: a batch is a tuple of inputs and labels, not {_kinds(batch)}")
        labels = batch[1]
        whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
        if not whole or labels.shape != images.shape[:1]:
            raise ValueError(
                f"Accuracy: labels are whole numbers, one for each of {len(images)} inputs, not {_shape(labels)}"
            )
        if len(labels):
            yield images, labels


def logits(outputs: Any, labels: Tensor) -> Tensor:
    """What a network says of a batch: (B, classes), with a class for every label.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(outputs, Tensor) or outputs.dim() != 2 or len(outputs) != len(labels):
        found = _shape(outputs) if isinstance(outputs, Tensor) else _kinds(outputs)
        raise ValueError(f"Accuracy: the network gives {found}, not ({len(labels)}, classes); give a function instead")
    lowest, highest = labels.min().item(), labels.max().item()
    if not 0 <= lowest <= highest < outputs.shape[1]:
        raise ValueError(f"Accuracy: labels from {lowest} to {highest} for a network of {outputs.shape[1]} classes")
    return outputs


def marks(images: Tensor, labels: Tensor) -> Tensor:
    """(B, 2): numbers that tell one input and its label from others."""
    rows = torch.nan_to_num(images.detach().flatten(1).double()).cpu()
    weights = torch.arange(1, rows.shape[1] + 1, dtype=torch.float64).cos()
    return torch.stack([rows @ weights, labels.double().cpu()], dim=1)


def percent(value: Any) -> float:
    """An accuracy that a user's function measured, in percent: a number, or a tensor or array of one.

    Raises:
        ValueError: it is something else, or outside of 0 to 100.
    """
    try:
        number = float("nan") if isinstance(value, (str, bytes, bytearray)) else float(value)
    except (TypeError, ValueError, RuntimeError):
        number = float("nan")
    if not 0 <= number <= 100 + 1e-6:
        shown = " ".join(repr(value).split())[:60]
        raise ValueError(f"evaluate gave {shown}; it is to give the accuracy in percent, a number from 0 to 100")
    return number


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) or isinstance(value, Tensor) and value.dim() == 0


def _shape(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _kinds(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"({', '.join(type(part).__name__ for part in value[:3])}{', ...' if len(value) > 3 else ''})"
    return f"a {type(value).__name__}"
