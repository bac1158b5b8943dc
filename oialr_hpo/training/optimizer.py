"""The optimizer of an experiment, with a network's parameters in their groups.

timm is imported where it is used: with torchvision it takes nearly as long as torch. torch's compiler, which every
optimizer imports, is imported before a training begins, whose network it would otherwise keep alive.
"""

from collections.abc import Collection, Iterable
from typing import Any

import torch
import torch._dynamo  # noqa: F401
from torch import nn

from oialr_hpo.experiment import Training
from oialr_hpo.optimization import create_optimizer


def make_optimizer(model: nn.Module, settings: Training, lr: float) -> torch.optim.Optimizer:
    """The optimizer of an experiment.

    Raises:
        LookupError: there is no such optimizer.
        ValueError: it does not know an argument, or the network does not tell its layers, which `layer_decay` needs.
    """
    return create_optimizer(
        settings.optimizer,
        parameter_groups(model, settings),
        lr=lr,
        weight_decay=settings.weight_decay,
        momentum=settings.momentum,
        arguments=settings.optimizer_arguments,
    )


def parameter_groups(model: nn.Module, settings: Training) -> Iterable[Any]:
    """The model's parameters, in groups with their own weight decay or share of the learning rate (`lr_scale`).

    Sigma takes the place of its weight in the weight's group; frozen bases are in none.
    """
    exempt: Collection[str] = getattr(model, "no_weight_decay", set)() if not settings.decay_bias_and_norm else ()
    if settings.layer_decay < 1:
        if not hasattr(model, "group_matcher"):
            raise ValueError(
                f"training.layer_decay: {type(model).__name__} does not tell its layers, as timm's networks do by "
                "group_matcher; set it to 1"
            )
        from timm.optim import param_groups_layer_decay

        groups: list[Any] = param_groups_layer_decay(
            model,
            settings.weight_decay,
            exempt,
            layer_decay=settings.layer_decay,
            weight_decay_exclude_1d=not settings.decay_bias_and_norm,
        )
        return groups
    if settings.decay_bias_and_norm:
        return model.parameters()
    from timm.optim import param_groups_weight_decay

    by_decay: list[Any] = param_groups_weight_decay(model, settings.weight_decay, no_weight_decay_list=exempt)
    return by_decay
