"""A trained network as a safetensors file, which says in its metadata where it comes from."""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_model
from torch import nn

from oialr_hpo.experiment import Experiment
from oialr_hpo.files import check_file
from oialr_hpo.mistake import Mistake, reason
from oialr_hpo.runs import layers
from oialr_hpo.runs.scoring import scores
from oialr_hpo.training.faults import written

PACKAGES = ("oialr_hpo", "torch", "timm", "safetensors")


class CheckpointError(Mistake):
    """The weights cannot be had; the message is one line with the remedy."""


def save_weights(model: nn.Module, path: Path, metadata: Mapping[str, str]) -> None:
    """Writes a network's weights, whole or not at all; `oialr_hpo.oialr.load_low_rank` reads those of OIALR.

    Raises:
        Fault: they cannot be written.
    """
    with written(path, "the weights") as partial:
        partial.touch()
        mode = partial.stat().st_mode & 0o777  # as the umask wants it; safetensors writes for the owner only
        save_model(model, str(partial), metadata=dict(metadata))
        partial.chmod(mode)


def describe(experiment: Experiment, seed: int, split: str, record: Mapping[str, Any]) -> dict[str, str]:
    """What a trained network is: JSON texts by name.

    Args:
        record: of the epoch that the weights are from, with the metrics of `split`.
    """
    try:
        score: list[float] | None = scores(record, experiment.score)
    except (KeyError, TypeError):  # nothing that is scored was measured
        score = None
    about = {
        "experiment": experiment.dump(),
        "seed": seed,
        "split": split,
        "score": score,
        "metrics": {name: value for name, value in record.items() if isinstance(value, (int, float))},
        layers.kind(record): layers.kept(record),
        "versions": {name: version(name) for name in PACKAGES},
    }
    return {"format": "pt"} | {name: json.dumps(value, default=str) for name, value in about.items()}


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
        raise CheckpointError(f"{path} holds no weights that can be read ({why}); choose another file") from None
    for key in ("state_dict", "model"):
        content = content.get(key, content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise CheckpointError(f"{path} holds something else than a state dict; choose another file")
    return {str(key).removeprefix("module."): value for key, value in content.items()}
