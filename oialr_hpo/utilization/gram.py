"""What flows into each layer: the Gram matrices of its inputs (utilized-rank paper, appendix 5.2).

A layer's weight is W (m x d): m outputs, d inputs; a convolution's kernel is flattened to d = in_channels * kernel size
and its input unfolded into patches. X (B x d) are the rows it was applied to. Biases play no part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from oialr_hpo.utilization.batches import inputs

CHUNK_NUMBERS = 2**22
"""Of the rows that are multiplied at once: 32 MiB in float64."""

Modules = Mapping[str, Sequence[nn.Module]]
"""The modules that use a layer's weight, by the layer's name; several where it is tied."""


@torch.no_grad()
def gram_matrices(network: nn.Module, modules: Modules, batches: Iterable[Any]) -> dict[str, Tensor]:
    """G = X^T X (d x d, float64) of each layer, summed over the batches, and over all processes of torch.distributed.

    Float32 would resolve only singular values above about 3e-4 of the largest. The network should be in eval mode;
    hooks are removed afterwards, whatever happens. A batch is what the network takes, or a tuple that starts with it.

    Raises:
        ValueError: a batch is something else, or there is none.
    """
    weights = {name: users[0].get_parameter("weight") for name, users in modules.items()}
    sums = {
        name: torch.zeros(weight[0].numel(), weight[0].numel(), dtype=torch.float64, device=weight.device)
        for name, weight in weights.items()
    }

    def add(name: str, module: nn.Module, x: Tensor) -> None:
        for rows in input_rows(module, x):
            sums[name].addmm_(rows.t(), rows)

    read = 0
    with watching(modules, add):
        for batch in batches:
            if len(x := inputs(batch)):
                network(on_its_device(x, network))
                read += len(x)
    if read == 0:
        raise ValueError("the loader gives no inputs when read again; give a list of batches, or a DataLoader")
    if dist.is_available() and dist.is_initialized():
        for gram in sums.values():
            dist.all_reduce(gram)
    return sums


@torch.no_grad()
def rows_per_image(network: nn.Module, modules: Modules, batch: Any) -> dict[str, float]:
    """How many rows of X each layer makes of one input, for the layers that one batch meets, in that order."""
    x = on_its_device(inputs(batch), network)
    rows: dict[str, float] = {}

    def count(name: str, module: nn.Module, layer_input: Tensor) -> None:
        met = sum(len(part) for part in input_rows(module, layer_input))
        rows[name] = rows.get(name, 0.0) + met / len(x)

    with watching(modules, count):
        network(x)
    return rows


@contextmanager
def watching(modules: Modules, see: Callable[[str, nn.Module, Tensor], None]) -> Iterator[None]:
    """Calls `see(layer, module, input)` before every forward pass of these modules."""
    handles = []

    def hook_of(name: str) -> Callable[..., None]:
        return lambda module, args, kwargs: see(name, module, (*args, *kwargs.values())[0])

    try:
        for name, users in modules.items():
            for module in users:
                handles.append(module.register_forward_pre_hook(hook_of(name), with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def ordinary_attention() -> Iterator[None]:
    """Without torch's fast path for transformers, whose nested tensors no hooked layer can read."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def on_its_device(x: Tensor, network: nn.Module) -> Tensor:
    """Inputs where the network's parameters are."""
    return x.to(next(network.parameters()).device, non_blocking=True)


def input_rows(module: Any, x: Tensor) -> Iterator[Tensor]:
    """X of one call, in parts of bounded size: (rows, d) in float64."""
    if isinstance(module, nn.Linear):
        for part in x.reshape(-1, module.in_features).split(max(1, CHUNK_NUMBERS // module.in_features)):
            yield part.double()
        return
    spatial = len(module.kernel_size)
    x = x if x.dim() == spatial + 2 else x.unsqueeze(0)
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    x = F.pad(x, module._reversed_padding_repeated_twice, mode=mode)
    kernel, stride, dilation = module.kernel_size, module.stride, module.dilation
    if spatial == 1:
        x, kernel, stride, dilation = x.unsqueeze(2), (1, *kernel), (1, *stride), (1, *dilation)
    per_image = x[0].numel() * kernel[0] * kernel[1] // (stride[0] * stride[1])
    for part in x.split(max(1, CHUNK_NUMBERS // per_image)):
        patches = F.unfold(part, kernel, dilation=dilation, stride=stride)
        yield patches.transpose(1, 2).reshape(-1, patches.shape[1]).double()
