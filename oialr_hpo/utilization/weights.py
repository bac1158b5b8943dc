"""The network of an experiment with weights worth analysing: a file's, or pretrained ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from oialr_hpo.experiment import Experiment
from oialr_hpo.files import check_file
from oialr_hpo.methods import load_method
from oialr_hpo.mistake import Mistake, reason
from oialr_hpo.training import devices
from oialr_hpo.utilization.factorise import densify


class CheckpointError(Mistake):
    """The weights cannot be had; the message is one line with the remedy."""


def trained_network(experiment: Experiment, task: Any, checkpoint: Path | None) -> nn.Module:
    """The network with the weights of a file, or with the pretrained ones that its arguments ask for.

    Raises:
        CheckpointError: there are no weights, or they are of another network.
    """
    network: nn.Module = task.build_model()
    if checkpoint:
        try:
            network = densify(load_method(experiment.method).load_weights(network, read_weights(checkpoint)))
        except (RuntimeError, ValueError, LookupError, TypeError) as error:
            why = reason(error)
            raise CheckpointError(f"{checkpoint} does not fit the network {experiment.model['name']}: {why}") from None
    elif not {"pretrained", "weights"} & {key for key, value in experiment.model["arguments"].items() if value}:
        raise CheckpointError(
            "the network is untrained; give --checkpoint FILE (from `oialr_hpo.train ... --weights FILE`), or ask for "
            "pretrained weights: --set model.arguments.pretrained=true (timm) or weights=DEFAULT (torchvision)"
        )
    return network.to(devices.choose(0)).eval()


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """A state dict, also one that a checkpoint holds as `state_dict` or `model`.

    Raises:
        CheckpointError: there is none.
    """
    check_file(path)
    try:
        content: Any = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # of a damaged file torch, zipfile and pickle raise nearly anything
        why = reason(error) if isinstance(error, OSError) else type(error).__name__
        raise CheckpointError(
            f"{path} holds no weights that can be read ({why}); choose another --checkpoint"
        ) from None
    for key in ("state_dict", "model"):
        content = content.get(key, content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise CheckpointError(f"{path} holds something else than a state dict; choose another --checkpoint")
    return {str(key).removeprefix("module."): value for key, value in content.items()}
