"""A search as an Optuna study, which Optuna's plots are drawn from."""

import logging
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from oialr_hpo.experiment import Experiment
from oialr_hpo.experiment.score import Direction
from oialr_hpo.experiment.space import Choice, Parameter, Space, Value
from oialr_hpo.runs.scoring import scores
from oialr_hpo.runs.trial import State, Trial
from oialr_hpo.samplers import distribution

STATES = {
    State.RUNNING: TrialState.RUNNING,
    State.INTERRUPTED: TrialState.WAITING,  # for --resume
    State.COMPLETE: TrialState.COMPLETE,
    State.PAUSED: TrialState.PRUNED,
    State.PRUNED: TrialState.PRUNED,
    State.FAILED: TrialState.FAIL,
    State.OUT_OF_MEMORY: TrialState.FAIL,
}


class Aim(NamedTuple):
    """A number of a trial, and whether it is to be small or large."""

    direction: Direction
    value: Callable[[Trial], float]


Aims = Mapping[str, Aim]


def own_aims(experiment: Experiment) -> Aims:
    """The search's own goals, by name."""
    aims, weight = {}, experiment.score.trainable_weight
    for index, goal in enumerate(experiment.score.goals):
        name = f"{goal.metric} {'+' if goal.sign > 0 else '-'} {weight:g} x trainable share" if weight else goal.metric
        aims[name] = Aim(goal.direction, lambda trial, i=index: trial.scores[i])  # type: ignore[misc]
    return aims


def minimized(experiment: Experiment) -> Aims:
    """The search's own goals, all turned so that smaller is better."""
    names = enumerate(own_aims(experiment))
    return {name: Aim("minimize", lambda trial, i=index: trial.goals[i]) for index, name in names}  # type: ignore[misc]


def derive(
    trials: Iterable[Trial],
    experiment: Experiment,
    aims: Aims | None = None,
    storage: BaseStorage | None = None,
    name: str | None = None,
) -> optuna.Study:
    """The study that these trials make, with the same trial numbers.

    Args:
        trials: of a search; a number that is missing among them becomes a failed trial without settings.
        experiment: what was searched.
        aims: by name; by default the search's own goals.
        storage: in memory by default.
        name: of the study.
    """
    aims = aims or own_aims(experiment)
    space = experiment.space
    distributions = {key: distribution(space.range(key)) for key in space.parameters}
    by_number = {trial.number: trial for trial in trials}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        logging.getLogger("optuna").setLevel(logging.WARNING)
        study = optuna.create_study(
            storage=storage, study_name=name, directions=[aim.direction for aim in aims.values()]
        )
        study.set_metric_names(list(aims))
    study.add_trials(
        _frozen(by_number.get(number), number, experiment, space, aims, distributions)
        for number in range(max(by_number, default=-1) + 1)
    )
    return study


def _frozen(
    trial: Trial | None,
    number: int,
    experiment: Experiment,
    space: Space,
    aims: Aims,
    distributions: dict[str, BaseDistribution],
) -> FrozenTrial:
    now = datetime.now()
    known: dict[str, Any] = {"number": number, "trial_id": number, "value": None, "values": None}
    if trial is None:
        nothing: dict[str, Any] = {"params": {}, "distributions": {}, "user_attrs": {}, "system_attrs": {}}
        return FrozenTrial(
            state=TrialState.FAIL, datetime_start=now, datetime_complete=now, intermediate_values={}, **known, **nothing
        )
    state = STATES[trial.state]
    if state is TrialState.COMPLETE:
        known["values"] = [aim.value(trial) for aim in aims.values()]
    curve: dict[int, float] = {}
    if len(aims) == 1:
        reached = {record["epoch"]: _first_score(record, experiment) for record in trial.epochs}
        curve = {epoch: value for epoch, value in reached.items() if value is not None}
        if state is TrialState.PRUNED and trial.scores:
            known["values"] = [aim.value(trial) for aim in aims.values()]
    params = {key: value for key, value in trial.settings.items() if space.has(key, value)}
    about: dict[str, Any] = {
        "role": trial.role.value,
        "state": trial.state.value,
        "reason": trial.reason,
        "seed": trial.seed,
    }
    about |= {"worker": trial.worker, "seconds": trial.seconds, "setup_seconds": trial.setup_seconds}
    about |= {key: value for key, value in trial.metrics.items() if isinstance(value, (int, float, str))}
    return FrozenTrial(
        state=state,
        datetime_start=None if state is TrialState.WAITING else _local(trial.started),
        datetime_complete=_local(trial.started + trial.elapsed) if state.is_finished() else None,
        params={key: _label(space.range(key), value) for key, value in params.items()},
        distributions={key: distributions[key] for key in params},
        user_attrs=about,
        system_attrs={"constraints": [trial.violation]} if experiment.constraints else {},
        intermediate_values=curve,
        **known,
    )


def _label(parameter: Parameter, value: Value) -> Value:
    return parameter.label(value) if isinstance(parameter, Choice) else value


def _first_score(record: Mapping[str, Any], experiment: Experiment) -> float | None:
    try:
        value = scores(record, experiment.score)[0]
    except KeyError:
        return None
    return value if math.isfinite(value) else None


def _local(seconds: float) -> datetime:
    """Optuna's times are local and without a zone."""
    return datetime.fromtimestamp(seconds, tz=timezone.utc).astimezone().replace(tzinfo=None)
