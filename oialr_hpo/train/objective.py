"""The objective of an experiment, one's own or the training of its task, as `train` calls it."""

from collections.abc import Iterable
from inspect import signature
from typing import Any

from oialr_hpo.experiment import OBJECTIVE, Experiment, load_objective
from oialr_hpo.experiment.objective import records
from oialr_hpo.mistake import Mistake

ASKED = {"split": "--split", "weights": "--weights"}
"""What an own objective gets only where it names it, and what asks for it."""


def check(experiment: Experiment, arguments: Iterable[str]) -> None:
    """
    Args:
        arguments: of `ASKED`, those that a training cannot do without.

    Raises:
        Mistake: the experiment's own objective cannot be called, or not with these.
    """
    named = signature(load_objective(experiment.objective)).parameters
    for name in arguments:
        if name not in named:
            why = f"the objective {experiment.objective} has no parameter {name}"
            raise Mistake(f"{ASKED[name]}: {why}; add it there, or leave {ASKED[name]} out")


def call(experiment: Experiment, threads: int, **arguments: Any) -> Any:
    """The records of a training."""
    objective = load_objective(experiment.objective)
    if experiment.objective != OBJECTIVE:
        import torch

        torch.set_num_threads(threads)  # as the training processes of a search have it
        named = signature(objective).parameters
        arguments = {name: value for name, value in arguments.items() if name in named or name not in ASKED}
    return records(objective(experiment, threads=threads, **arguments))
