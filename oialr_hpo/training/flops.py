"""What a network costs to use: the FLOPs that it computes, two for each multiplication with its addition.

Counted are products of matrices, convolutions and attention. A zero is computed like any other number: weights that a
mask has cleared save nothing here, narrower and low-rank layers do.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves

from oialr_hpo.oialr import merge
from oialr_hpo.oialr.layers import LowRank
from oialr_hpo.oialr.randomness import random_state_kept
from oialr_hpo.tasks import Task
from oialr_hpo.training.sizes import Dense


def count_flops(run: Callable[[], Any], recurrent: bool = False) -> int:
    """The FLOPs of all that `run` computes, the same on any device.

    Args:
        recurrent: LSTMs and their like may be among it: convolutions are slower then.
    """
    from torch.utils.flop_counter import FlopCounterMode  # here: it takes a tenth of a second

    with _counted_kernels(recurrent), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def inference_flops(task: Task, network: nn.Module, device: torch.device, dense: Dense) -> dict[str, float]:
    """What `flops_of_a_sample` says of a trained network, as `inference_flops`, and in percent of the dense network's,
    as `flops_percent`, where a task allows it.

    Args:
        dense: where its FLOPs are not known yet, it is the task's network, and learns them here.
    """
    found = flops_of_a_sample(task, network, device)
    if not found:
        return {}
    if dense.flops is None:
        with random_state_kept(device):
            built = task.build_model().to(device)
        dense.flops = flops_of_a_sample(task, built, device) or 0.0
    return {"inference_flops": found} | ({"flops_percent": 100 * found / dense.flops} if dense.flops else {})


@torch.no_grad()
def flops_of_a_sample(task: Task, network: nn.Module, device: torch.device) -> float | None:
    """The FLOPs of a sample's way through a network in evaluation mode.

    They are those of the task's loss on the first batch of training, divided by the batch's samples: the length of its
    first tensor. Low-rank layers are counted as `oialr_hpo.oialr.merge` leaves them.

    Args:
        network: on the device; its weights stay as they are.

    Returns:
        None where a task or a network does not allow this.
    """
    try:
        if any(isinstance(module, LowRank) for module in network.modules()):
            network = merge(copy.deepcopy(network))
        network.eval()
        recurrent = any(isinstance(module, nn.RNNBase) for module in network.modules())
        with random_state_kept(device):
            batch = next(iter(task.train_batches(1)))
            flops = count_flops(lambda: task.loss(network, batch), recurrent)
        return flops / len(next(leaf for leaf in tree_leaves(batch) if isinstance(leaf, Tensor)))
    except Exception:  # of code of the user's that was not made for this: no training fails by being measured
        return None


@contextmanager
def _counted_kernels(recurrent: bool) -> Iterator[None]:
    """Attention and recurrent layers consist of products of matrices here; their own kernels are not counted."""
    fast = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if recurrent:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")  # of flags that this machine has no use for
            stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
