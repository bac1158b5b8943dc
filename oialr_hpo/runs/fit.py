"""Whether and how earlier trials fit the search that goes on with them."""

from collections.abc import Iterable

from oialr_hpo.experiment import Experiment
from oialr_hpo.experiment.space import SpaceError, Value
from oialr_hpo.runs.trial import Role, Trial


def complete(trials: Iterable[Trial], experiment: Experiment) -> None:
    """Give each trial a value of every setting that is searched beside its others: one that was not searched when it
    ran had the file's."""
    space = experiment.space
    for trial in trials:
        whole = not space.conditions and all(key in trial.settings for key in space.parameters)
        if trial.role is not Role.DENSE and not whole:
            trial.settings = space.complete(trial.settings)


def misfit(trials: Iterable[Trial], experiment: Experiment) -> str | None:
    """Why a trial is no point of an experiment's search; None where all are.

    Args:
        trials: which were trained with the settings of this experiment but for those that were searched.
        experiment: the search that is to go on with them.
    """
    trials = [trial for trial in trials if trial.role is not Role.DENSE]
    complete(trials, experiment)
    space, others = experiment.space, experiment.other_methods
    fixed: dict[str, Value] = {}
    for trial in trials:
        try:
            for key in trial.settings.keys() - space.parameters.keys():
                if key.partition(".")[0] in others:
                    continue
                if key not in fixed:
                    fixed[key] = _own(experiment, key)
                if not _same(trial.settings[key], fixed[key]):
                    raise SpaceError(f"{key}: it had {trial.settings[key]!r}, now it is fixed at {fixed[key]!r}")
            space.encode(trial.settings)
        except SpaceError as error:
            return f"trial {trial.number} is not in the new search space: {error}"
    return None


def _own(experiment: Experiment, key: str) -> Value:
    try:
        return experiment.value(key)
    except (KeyError, TypeError):
        raise SpaceError(f"{key}: there is no such setting") from None


def _same(one: Value, other: Value) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)
