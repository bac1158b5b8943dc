"""Who stands in the tables of a search: the best trials, beside the untuned settings and the dense model."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from oialr_hpo.experiment import Experiment
from oialr_hpo.experiment.space import as_text
from oialr_hpo.runs.ranking import Standing, front, standings
from oialr_hpo.runs.trial import Role, State, Trial


def leaders(trials: Sequence[Trial], experiment: Experiment, top: int) -> list[tuple[str, Trial]]:
    """The best trials, or the Pareto front of several goals, beside the untuned settings and the dense model.

    Settings that were tried more than once have the mean of their scores.
    """
    name, winners = ("front", front(trials)) if len(experiment.score.goals) > 1 else ("best", standings(trials)[:top])
    found = []
    for place, standing in enumerate(winners, 1):
        found.append((f"{name} {place}{_mean(standing)}", replace(standing.trial, scores=standing.scores)))
    found += [("untuned", trial) for trial in [untuned(trials, experiment)] if trial]
    return found + [("dense", trial) for trial in trials if trial.role is Role.DENSE and trial.score is not None][:1]


def _mean(standing: Standing) -> str:
    """Of how many trials the score is the mean, and how they scatter."""
    if standing.deviation is None:
        return " (a fresh seed)" if standing.fresh else ""
    return f" (mean of {len(standing.counted)} ± {standing.deviation:.2g})"


def untuned(trials: Iterable[Trial], experiment: Experiment) -> Trial | None:
    """The first complete trial of the experiment file's own settings."""
    own = as_text(experiment.start({}))
    ran = (trial for trial in trials if trial.role is not Role.DENSE and trial.state is State.COMPLETE)
    return next((trial for trial in ran if as_text(trial.settings) == own), None)
