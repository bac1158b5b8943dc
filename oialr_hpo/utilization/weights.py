"""The network of an experiment with weights worth analysing: a file's, or pretrained ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from oialr_hpo.experiment import Experiment
from oialr_hpo.methods import load_method
from oialr_hpo.mistake import reason
from oialr_hpo.training import devices
from oialr_hpo.training.weights import CheckpointError, read_weights
from oialr_hpo.utilization.factorisation import densify


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
    elif not is_pretrained(experiment):
        raise CheckpointError(
            "the network is untrained; give --checkpoint FILE (from `oialr_hpo.train ... --weights FILE`), or ask for "
            "pretrained weights: --set model.arguments.pretrained=true (timm) or weights=DEFAULT (torchvision)"
        )
    return network.to(devices.choose(0)).eval()


def is_pretrained(experiment: Experiment) -> bool:
    """Whether the network's arguments ask for weights."""
    return bool({"pretrained", "weights"} & {key for key, value in experiment.model["arguments"].items() if value})
