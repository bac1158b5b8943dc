"""A training's steps through torch.compile, with few recompilations.

Compiled are the blocks that a network repeats, once for all of a kind, as PyTorch's recipe on regional compilation and
accelerate's `compile_regions` do; of a network without any, the whole. Their ranks, and nothing else, are symbols in
the compiled code from the first: it is made anew where a layer turns low-rank or passes from the product with its whole
weight to those with its factors, not where a rank falls. So it does not depend on what was compiled before either, and
an interrupted training goes on to the bit. Optimizers and evaluations are not compiled.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from oialr_hpo.mistake import Mistake, warn
from oialr_hpo.oialr.layers import LowRank
from oialr_hpo.oialr.merging import Thin

LISTS = (nn.Sequential, nn.ModuleList)
MANY = 32
"""Compilations of a training, of which each takes some seconds, that are worth a warning."""


def compiling(network: nn.Module, device: torch.device, wanted: bool) -> Callable[[], AbstractContextManager[None]]:
    """The context in which `network`, as it is by then, computes by compiled code, if that is wanted.

    Raises:
        Mistake: there is no compiler.
    """
    return Compiled(network, device).at_work if wanted else nullcontext


class Compiled:
    """Attributes:
    network: as it is.
    compilations: so far.
    """

    def __init__(self, network: nn.Module, device: torch.device):
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(torch.get_num_threads()))
        check_compilers(device)
        self.network, self.compilations = network, 0
        self._blocks = {block: torch.compile(block.forward) for block in blocks(network)}

    @contextmanager
    def at_work(self) -> Iterator[None]:
        from torch._dynamo import config, maybe_mark_dynamic
        from torch._dynamo.utils import counters
        from torch.fx.experimental import _config as shapes

        for tensor, dim in ranks(self.network):
            maybe_mark_dynamic(tensor, dim)
        before, few = counters["stats"]["unique_graphs"], self.compilations <= MANY
        for block, compiled in self._blocks.items():
            block.forward = compiled
        try:
            with config.patch(SETTINGS), shapes.patch(use_duck_shape=False):  # type: ignore[attr-defined]
                yield
        finally:
            for block in self._blocks:
                del block.forward
        self.compilations += counters["stats"]["unique_graphs"] - before
        if few and self.compilations > MANY:
            warn(f"training.compile: {self.compilations} compilations so far; false may be faster for this network")


SETTINGS = {
    "force_parameter_static_shapes": False,  # or ranks would be constants
    "automatic_dynamic_shapes": False,  # or more became symbols with what was seen before
    "cache_size_limit": 1024,  # or a block went on without compiled code after eight
    "accumulated_cache_size_limit": 8192,
    "optimize_ddp": False,  # blocks let DistributedDataParallel send gradients early
}
"""Of torch._dynamo."""


def blocks(network: nn.Module) -> list[nn.Module]:
    """The innermost modules of classes that the network repeats in lists; itself, where there are none."""
    listed = {child: None for each in network.modules() if isinstance(each, LISTS) for child in each.children()}
    found = [each for each in listed if [*each.children()] and not isinstance(each, LISTS)]
    number = Counter(map(type, found))
    repeated = {each: {*each.modules()} - {each} for each in found if number[type(each)] > 1}
    return [each for each, inside in repeated.items() if not inside & repeated.keys()] or [network]


def ranks(network: nn.Module) -> Iterator[tuple[Tensor, int]]:
    """Factors, and the dimensions of theirs that are ranks."""
    for layer in network.modules():
        if isinstance(layer, LowRank):
            yield from ((layer.u, 1), (layer.sigma, 0), (layer.sigma, 1), (layer.vt, 0))
        elif isinstance(layer, Thin):
            yield from ((layer.down.get_parameter("weight"), 0), (layer.up.get_parameter("weight"), 1))


def check_compilers(device: torch.device) -> None:
    """Raises:
    Mistake: what torch.compile needs on this device is missing.
    """
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler
    from torch.utils._triton import has_triton

    without = "or set training.compile=false"
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise Mistake(f"training.compile: no C++ compiler; install g++, name one by CXX=PATH, {without}") from None
    if device.type == "cuda" and not has_triton():
        raise Mistake(f"training.compile: Triton is missing or does not know this GPU; pip install triton, {without}")
