"""Settings that worked elsewhere as the first trials of a search, and as the priors of its ranges."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from oialr_hpo import experiment as experiments
from oialr_hpo.experiment import Experiment, ExperimentError
from oialr_hpo.experiment.space import Space, SpaceError
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.files import RunDirectoryError
from oialr_hpo.runs.ranking import best, pareto_front


def with_starts(experiment: Experiment, sources: Iterable[Path]) -> Experiment:
    """The experiment with the settings of each source among its starts, before those of its file.

    Of each source only the settings that are searched here are taken; what it does not name keeps the value of this
    experiment's file. What the first source that names a setting has there becomes the prior of a range that has none;
    where there is a Pareto front instead of one best trial, it believes in nothing.

    Args:
        experiment: to be searched.
        sources: YAML files, as exported or with only some settings, and run directories, whose best trial (with
            several goals, whose Pareto front) is taken.

    Raises:
        ExperimentError: a setting lies outside the search space, a source names none of the searched settings, or has
            no best trial.
    """
    starts, priors, space = list[dict[str, Any]](), dict[str, Any](), experiment.space
    for source in sources:
        found = _best_of(source) if source.is_dir() else [_read(source)]
        for settings in found:
            start = {key: settings[key] for key in space.parameters if key in settings}
            if not start:
                searched = ", ".join(space.parameters)
                raise ExperimentError(f"--start-from {source}: it sets nothing that is searched here: {searched}")
            starts.append(_checked(space, start, source))
            if len(experiment.score.metrics) == len(found) == 1:
                filled = space.fill(starts[-1])
                priors = {key: {"prior": space.prior_at(key, filled)} for key in starts[-1]} | priors
    search = {key: priors.get(key, {}) | spec for key, spec in experiment.search.items()}
    return experiment.model_copy(update={"start_from": [*starts, *experiment.start_from], "search": search})


def _read(source: Path) -> dict[str, Any]:
    """The settings of a YAML file by dotted key."""
    if not os.path.lexists(source):
        raise ExperimentError(f"--start-from {source}: no such file or run directory")
    try:
        return experiments.flatten(experiments.read(source))
    except ExperimentError as error:
        raise ExperimentError(f"--start-from {error}") from None


def _best_of(source: Path) -> list[dict[str, Any]]:
    """The settings of the best trials of a run, by dotted key."""
    try:
        run = RunDirectory.open(source)
    except RunDirectoryError as error:
        raise ExperimentError(f"--start-from {error}") from None
    trials, tried = run.trials(), run.experiment
    winners = best(trials) if len(tried.score.metrics) == 1 else pareto_front(trials)
    if not winners:
        raise ExperimentError(f"--start-from {source}: no trial there is complete and keeps the constraints")
    return [experiments.flatten(tried.with_settings(trial.settings).dump()) for trial in winners]


def _checked(space: Space, start: dict[str, Any], source: Path) -> dict[str, Any]:
    """The start without what is not searched beside its other settings."""
    filled = space.fill(start)
    start = {key: value for key, value in start.items() if key in filled}
    for key in start:
        try:
            space.check(key, filled)
        except SpaceError as error:
            raise ExperimentError(
                f"--start-from {source}: {key}: {error}; change it there, or the range: --set 'search.{key}=...'"
            ) from None
    return start
