"""What is run of an experiment: searches for its method and for the dense network, and trainings with several seeds."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from oialr_hpo import experiment as experiments
from oialr_hpo.experiment import OBJECTIVE, Experiment, ExperimentError

RATES = ("schedule.lr", "schedule.min_lr", "schedule.warmup_lr")


def load(name: str, changes: Iterable[str]) -> Experiment:
    """An experiment that can be compared.

    Raises:
        ExperimentError: it has several goals: there is no best trial to compare. Or an objective of its own: what is
            compared are trainings of a task.
    """
    loaded = experiments.load(name, changes)
    if loaded.objective != OBJECTIVE:
        why = "what is compared are trainings of a task, dense and small; search and train with it instead"
        raise ExperimentError(f"{name}: objective: {why}")
    if len(loaded.score.metrics) > 1:
        raise ExperimentError(f"{name}: score names several goals, of which no trial is the best; name one")
    return loaded


def shorten(experiment: Experiment, budget: float) -> Experiment:
    """The experiment with this share of its epochs and trials; durations that are fractions shrink with it."""
    epochs = max(1, round(budget * experiment.training.epochs))
    trials = max(len(experiment.start_from) + 1, round(budget * experiment.trials))
    if budget == 1:
        return experiment
    return experiment.with_settings({"training.epochs": epochs}).model_copy(update={"trials": trials})


def scaled(settings: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """The settings with their learning rates multiplied."""
    return {key: value * factor if key in RATES else value for key, value in settings.items()}


def for_method(experiment: Experiment) -> Experiment:
    """The search for the method's settings."""
    return experiment.model_copy(update={"dense_baseline": False})


def for_dense(experiment: Experiment) -> Experiment:
    """The search for the dense network: with the same budget, of all settings but those of methods."""
    return for_method(experiment.with_settings({"method": "dense"})).model_copy(update={"constraints": {}})


def repeated(experiment: Experiment, seeds: Sequence[int]) -> Experiment:
    """A search without a sampler: one trial for each seed, with the experiment's own settings."""
    fixed = experiment.fixed()
    again = {
        "search": {"seed": {"choices": list(seeds)}},
        "start_from": [{"seed": seed} for seed in seeds],
        "trials": len(seeds),
        "constraints": {},
        "evidence": None,
        "early_stopping": fixed.early_stopping.model_copy(update={"enabled": False}),
    }
    return fixed.model_copy(update=again)
