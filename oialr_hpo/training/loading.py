"""The network of an experiment, with the weights of a training of it."""

import json
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from oialr_hpo import experiment as experiments
from oialr_hpo.experiment import OF_THE_SEARCH, Experiment, flatten
from oialr_hpo.methods import load_method
from oialr_hpo.mistake import Mistake, reason
from oialr_hpo.oialr import merge as merged
from oialr_hpo.runs.weights import beside, described
from oialr_hpo.tasks import load_settings
from oialr_hpo.training.objective import build_task
from oialr_hpo.training.weights import CheckpointError, read_weights

OF_NO_NETWORK = {*OF_THE_SEARCH, "seed", "score", "constraints", "reference", "evidence"}
"""Settings in which a training and the file that its weights lie beside may differ."""


def load(
    file: str | Path, weights: str | Path | None = None, *, merge: bool = True, data_dir: str | Path | None = None
) -> nn.Module:
    """The network of an experiment, trained where there are weights of it.

    Args:
        file: an experiment by its name or path, such as an exported one; or weights that `train --weights` or a search
            wrote (`.safetensors`), which say themselves what their experiment is.
        weights: of a training of this experiment; by default those that lie beside it and are called like it, such as
            `best.safetensors` beside `best.yaml`.
        merge: give plain torch layers: two thin ones for each low-rank one, or one where that is cheaper. Otherwise
            low-rank layers stay as they were trained, U and V frozen.
        data_dir: where data sets lie, by default `OIALR_DATA`: some tasks learn from the data how large their network
            is.

    Returns:
        the network on the CPU: in eval mode with its weights, else as its training begins.

    Raises:
        Mistake: there is no such file, or the weights are of another network or of other settings.
    """
    file = os.fspath(file)
    if file.endswith(".safetensors") and weights is not None:
        raise Mistake(f"{file} holds weights already: name an experiment beside {weights}, or one of both alone")
    found: Path | None
    if file.endswith(".safetensors"):
        experiment, found = _described_experiment(Path(file)), Path(file)
    else:
        experiment = experiments.load(file)
        found = Path(weights) if weights is not None else _beside(experiments.find(file), experiment)
    network = _build(experiment, Path(data_dir) if data_dir else None)
    if found is None:
        return network
    state, about = read_weights(found), described(found)
    method = about.get("experiment", {}).get("method", experiment.method)
    try:
        network = load_method(method).load_weights(network, state)
    except (RuntimeError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(f"{found} does not fit the network of {Path(file).name}: {reason(error)}") from None
    return (merged(network) if merge else network).eval()


def _described_experiment(weights: Path) -> Experiment:
    """The experiment of a file of weights, by its own words."""
    read_weights(weights)
    content = described(weights).get("experiment")
    if not isinstance(content, dict):
        remedy = f"name it too: oialr_hpo.load('my_experiment.yaml', weights={str(weights)!r})"
        raise CheckpointError(f"{weights} does not say which experiment its weights are of; {remedy}")
    return experiments.changed(content, [], weights.name)


def _beside(path: Path, experiment: Experiment) -> Path | None:
    """The weights of a training of this very experiment that lie beside its file.

    Raises:
        CheckpointError: those that do are of another one.
    """
    weights = beside(path)
    if not weights.is_file():
        if experiment.evidence:
            warnings.warn(f"{path.name}: no {weights.name} lies beside it: its network is untrained", stacklevel=3)
        return None
    content = described(weights).get("experiment")
    if isinstance(content, dict):
        theirs, ours = (_of_network(each) for each in (experiments.changed(content, [], weights.name), experiment))
        if differing := [key for key in ours | theirs if ours.get(key) != theirs.get(key)]:
            key = differing[0]
            raise CheckpointError(
                f"{weights.name} is of a training with {key}: {theirs.get(key)}, {path.name} says {ours.get(key)}; "
                "to load it nevertheless, name it: weights=..."
            )
    return weights


def _of_network(experiment: Experiment) -> dict[str, Any]:
    """What decides which network a training ends with, by dotted key."""
    left_out = OF_NO_NETWORK | experiment.other_methods
    content = {key: value for key, value in experiment.dump().items() if key not in left_out}
    plain: dict[str, Any] = json.loads(json.dumps(content, default=str))
    return flatten(plain)


def _build(experiment: Experiment, data_dir: Path | None) -> nn.Module:
    """The network of an experiment as its training begins; without its data where its settings suffice."""
    settings = load_settings(experiment.task).model_validate({"data": experiment.data, "model": experiment.model})
    given = os.environ.get("OIALR_DATA")
    data_dir = data_dir or (Path(given) if given else None)
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(experiment.seed)
        if (network := settings.build_model()) is not None:
            return network
        device = torch.device("cpu")
        task = build_task(experiment, seed=experiment.seed, device=device, data_dir=data_dir)
        torch.default_generator.manual_seed(experiment.seed)
        return task.build_model().to(device)
