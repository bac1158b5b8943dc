"""What is around a network whose parameters change shape: DistributedDataParallel, torch.compile."""

from __future__ import annotations

import warnings

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

HOOKS = [name for name in vars(nn.Module()) if "hook" in name]  # a module's attributes that hold its hooks


def unwrapped(model: nn.Module) -> nn.Module:
    """The network itself, inside DistributedDataParallel, DataParallel and torch.compile."""
    if isinstance(model, (DistributedDataParallel, nn.DataParallel)):
        return unwrapped(model.module)
    compiled = getattr(model, "_orig_mod", None)
    return unwrapped(compiled) if isinstance(compiled, nn.Module) else model


def plain(name: str) -> str:
    """The name of a module or parameter as it is without torch.compile, of parts of the network too."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def check_whole(model: nn.Module) -> None:
    """Raises TypeError for a network whose weights are spread over processes."""
    for module in model.modules():
        if any(kind.__name__ in ("FullyShardedDataParallel", "FSDPModule") for kind in type(module).__mro__):
            raise TypeError("OIALR: FSDP spreads each weight over processes; use DistributedDataParallel")
    for name, parameter in model.named_parameters():
        if type(parameter.data).__name__ == "DTensor" or hasattr(parameter, "ds_id"):
            raise TypeError(f"OIALR: '{name}' is spread over processes (FSDP2, DeepSpeed); use DistributedDataParallel")


def process_group(model: nn.Module) -> dist.ProcessGroup | None:
    return model.process_group if isinstance(model, DistributedDataParallel) else None


def agreed(tensor: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """The group's first rank's values on all its ranks, contiguous; in the tensor itself where it is so."""
    tensor = tensor.contiguous()
    if group is not None:
        dist.broadcast(tensor, dist.get_global_rank(group, 0), group)
    return tensor


def from_first_rank(
    factors: tuple[Tensor, Tensor, Tensor], group: dist.ProcessGroup | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The group's first rank's `factors` on all its ranks: an SVD may differ in its last bits elsewhere."""
    u, s, vt = (agreed(factor, group) for factor in factors)
    return u, s, vt


def rebuild(model: nn.Module) -> None:
    """Sets up DistributedDataParallel again, in place, for the parameters the network has now.

    Its reducer knows the parameters it was built with; a new one sums the gradients of Sigma (r x r), not
    those of the weights. Settings, hooks and mode are kept. Does nothing for other models.
    """
    if not isinstance(model, DistributedDataParallel):
        return
    hooks = model._comm_hooks
    kept = {name: getattr(model, name) for name in (*HOOKS, "training")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # newer versions of torch rename broadcast_buffers
        model.__init__(  # type: ignore[misc]
            model.module,
            device_ids=model.device_ids,
            output_device=model.output_device,
            dim=model.dim,
            broadcast_buffers=model.broadcast_buffers,
            process_group=model.process_group,
            bucket_cap_mb=model.bucket_bytes_cap / 2**20,
            find_unused_parameters=model.find_unused_parameters,
            gradient_as_bucket_view=model.gradient_as_bucket_view,
            static_graph=model.static_graph,
            mixed_precision=model.mixed_precision,
        )
    vars(model).update(kept)
    for hook, state in hooks:
        model.register_comm_hook(state, hook)
