"""What a file searches, held against its settings: lines of `search`, starts, goals and samplers that fit together."""

import math
import shlex
from contextlib import suppress

from oialr_hpo import tasks
from oialr_hpo.experiment import score as scores
from oialr_hpo.experiment.experiment import OF_THE_SEARCH, Experiment, ExperimentError, flatten
from oialr_hpo.experiment.settings import NOISE_REPEATS, SAMPLERS, seconds
from oialr_hpo.experiment.space import SpaceError, Value, as_text, parse_line
from oialr_hpo.mistake import hint


def check_lines(experiment: Experiment, where: str) -> None:
    """Every line of `search` is one, of a key that there is, and depends on none but such."""
    for key, spec in experiment.search.items():
        check_known(experiment, key, f"{where}: search")
        try:
            line = parse_line(spec)
        except SpaceError as error:
            raise ExperimentError(f"{where}: search.{key}: {error}") from None
        for other in line.others:
            check_known(experiment, other, f"{where}: search.{key}: {'when' if other in line.when else 'times'}")
    try:
        _ = experiment.space
    except SpaceError as error:
        raise ExperimentError(f"{where}: search.{error}") from None


def check_search(experiment: Experiment, where: str) -> None:
    check_lines(experiment, where)
    _check_conditions(experiment, where)
    space = experiment.space
    meant: dict[tuple[str, str], Value] = {}
    for key, settings in space.corners():
        try:
            as_set = as_text([settings | {key: experiment.with_settings(settings).value(key)}])
        except ExperimentError as error:
            raise ExperimentError(f"{where}: search.{key}: {str(error).removeprefix('settings: ')}") from None
        if (key, as_set) in meant:
            same = f"{meant[key, as_set]} and {settings[key]}"
            raise ExperimentError(f"{where}: search.{key}: {same} are the same for this setting; keep one")
        meant[key, as_set] = settings[key]
    for number, start in enumerate(experiment.start_from):
        for key in start:
            check_known(experiment, key, f"{where}: start_from[{number}]")
            if key not in experiment.search:
                raise ExperimentError(
                    f"{where}: start_from[{number}].{key}: not searched; add it to search or remove it"
                )
    for number, start in enumerate(experiment.start_from):
        filled = space.fill(start)
        for key in start:
            if key in space.parameters and key not in filled:
                why = f"not searched beside its other settings, {space.condition(key)}"
                raise ExperimentError(f"{where}: start_from[{number}].{key}: {why}; remove it there")
        try:
            space.encode(filled)
        except SpaceError as error:
            raise ExperimentError(f"{where}: start_from[{number}]: {error}; {_without_start(experiment)}") from None
    for key in experiment.reference:
        check_known(experiment, key, f"{where}: reference")
    try:
        experiment.with_settings(experiment.reference)
    except ExperimentError as error:
        raise ExperimentError(f"{where}: reference: {str(error).removeprefix('settings: ')}") from None
    for key in ("time_limit", "trial_timeout"):
        try:
            seconds(getattr(experiment, key) or "1s")
        except ValueError as error:
            raise ExperimentError(f"{where}: {key}: {error}") from None
    task = tasks.load_settings(experiment.task)
    if wrong := scores.misdirected(experiment.score, task.smaller_is_better, task.larger_is_better):
        raise ExperimentError(f"{where}: {wrong}")
    goals = len(experiment.score.goals)
    if goals > 1 and experiment.score.trainable_weight:
        raise ExperimentError(
            f"{where}: score.trainable_weight: with {goals} goals leave it out; "
            "minimize trainable_percent as one of them"
        )
    if experiment.stop_when is not None:
        _check_stop_when(experiment, where)
    if experiment.sampler.name:
        _check_sampler(experiment.sampler.name, goals, where)


def _check_stop_when(experiment: Experiment, where: str) -> None:
    """It can be told."""
    if len(experiment.score.goals) > 1:
        raise ExperimentError(f"{where}: stop_when: with several goals there is no winner; leave it out")
    finalists = experiment.finalists
    if experiment.finalist_trainings < NOISE_REPEATS:
        needed = math.ceil(NOISE_REPEATS / finalists.share)
        how = f"set trials to {needed} or more"
        if "seed" in experiment.search:
            how = "do not search the seed"
        elif finalists.count == 0:
            how = "take finalists.count: 0 back"
        why = f"needs {NOISE_REPEATS} trainings of finalists, which tell the noise"
        raise ExperimentError(f"{where}: stop_when: {why}; {how}, or leave it out")


def _check_conditions(experiment: Experiment, where: str) -> None:
    """What a setting that is not searched must be, for a line to be, is a value that it may have."""
    for key, spec in experiment.search.items():
        conditions = [(o, value) for o, values in parse_line(spec).when.items() for value in values]
        for other, value in conditions:
            if other not in experiment.search:
                try:
                    experiment.with_settings({other: value})
                except ExperimentError as error:
                    wrong = str(error).removeprefix("settings: ")
                    raise ExperimentError(f"{where}: search.{key}: when.{wrong}") from None


def _check_sampler(name: str, goals: int, where: str) -> None:
    """It is there, and knows as many goals as the score names."""
    if name in SAMPLERS.names() and goals == 1:
        return
    try:
        knows_many = getattr(SAMPLERS.load(name), "many_goals", False)
    except LookupError as error:
        raise ExperimentError(f"{where}: sampler.name: {error}") from None
    if goals > 1 and not knows_many:
        fitting = [each for each in SAMPLERS.names() if SAMPLERS.load(each).many_goals]
        raise ExperimentError(
            f"{where}: sampler.name: {name} knows one goal, score names {goals}; choose one of {', '.join(fitting)}"
        )


def _without_start(experiment: Experiment) -> str:
    """How to go on without the starts that lie outside of the search space."""
    from oialr_hpo.experiment import strict_yaml

    fitting = []
    for start, settings in zip(experiment.start_from, experiment.starts(), strict=True):
        with suppress(SpaceError):
            experiment.space.encode(settings)
            fitting.append(start)
    change = shlex.quote(f"start_from={strict_yaml.dump(fitting, default_flow_style=True, width=math.inf).strip()}")
    how = f": --set {change}" if len(change) <= 120 else f" of start_from, {len(fitting)} of them fit"
    return f"widen the range, or leave that start out{how}"


def check_known(experiment: Experiment, key: str, where: str) -> None:
    fixed = (*OF_THE_SEARCH, "objective", "score", "constraints", "reference", "evidence")
    known = [k for k in flatten(experiment.model_dump()) if k.split(".")[0] not in fixed]
    if key not in known:
        raise ExperimentError(f"{where}.{key}: no such setting;{hint(key, known)}".rstrip(";"))
