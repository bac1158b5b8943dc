"""One experiment: what is trained, how it is scored, and what a search may change."""

import math
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from oialr_hpo import methods, tasks
from oialr_hpo.experiment import method_sections
from oialr_hpo.experiment import score as scores
from oialr_hpo.experiment.objective import OBJECTIVE, UNNAMED, checked_name, with_unnamed
from oialr_hpo.experiment.score import Bound, Score
from oialr_hpo.experiment.settings import LOGGERS, EarlyStopping, Evidence, Finalists, Islands, Sampler, Training
from oialr_hpo.experiment.space import Space, Value, as_text, parse_line
from oialr_hpo.mistake import Mistake, described, hint
from oialr_hpo.optimization import Schedule, load_optimizer, load_rate
from oialr_hpo.section import Section, Share, first_mistake


class ExperimentError(Mistake):
    """A mistake in an experiment: one line with the file, the key and the remedy."""


OF_THE_SEARCH = (
    *("search", "start_from", "dense_baseline", "sampler", "islands", "early_stopping", "finalists"),
    *("trials", "stop_when", "time_limit", "at_time_limit", "trial_timeout", "keep_weights", "loggers"),
)
"""Settings that only a search reads; the others say what one trial is."""
OF_THE_NETWORK = ("task", "data", "model")
"""Settings that may change how many parameters the dense network has."""
RECORDED = {"recorded": True}
"""The context in which a record is validated."""


class Experiment(Section):
    """One experiment: what is trained, how it is scored, and what a search may change.

    Settings of methods stand beside these, each in the section of its method, such as `oialr.cutoff`.
    """

    model_config = ConfigDict(extra="allow")

    task: str | None = Field(
        description="what is trained: a built-in task, or package.module:Class; an objective of one's own needs none"
    )
    objective: Annotated[str, AfterValidator(checked_name)] = Field(
        OBJECTIVE, description="the function that is run for every trial, package.module:function"
    )
    data: dict[str, Any] = Field(description="settings of the task")
    model: dict[str, Any] = Field(description="settings of the task")
    training: Training
    schedule: Schedule
    method: Annotated[str, methods.METHODS] = Field(methods.DEFAULT, description="how it is trained; dense: as it is")
    score: Score
    constraints: dict[str, Bound] = Field({}, description="a trial that breaks one ranks behind all that keep it")
    search: dict[str, Any] = Field({}, description="a range, or choices, of each setting that is searched")
    start_from: list[dict[str, Any]] = Field([], description="searched settings that are tried first; {}: the file's")
    dense_baseline: bool = Field(False, description="one trial of a search is the dense model, for comparison")
    sampler: Sampler = Field(default_factory=Sampler)
    islands: Islands = Field(default_factory=Islands)
    early_stopping: EarlyStopping = Field(default_factory=EarlyStopping)
    finalists: Finalists = Field(default_factory=Finalists)
    trials: int = Field(64, ge=1, description="of a search, over all workers")
    stop_when: Share | None = Field(
        None, description="no more settings are tried once the chance to better the winner beyond noise is so small"
    )
    time_limit: str | None = Field(None, description="of a search, e.g. 30m or 4h")
    at_time_limit: Literal["finish", "interrupt"] = Field("finish", description="what running trials do then")
    trial_timeout: str | None = Field(None, description="a trial that runs longer has failed, e.g. 2h")
    keep_weights: int = Field(0, ge=0, description="so many of the best trials leave their networks in RUN/weights")
    loggers: list[Annotated[str, LOGGERS]] = Field([], description="where else a search tells its news")
    seed: int = Field(0, ge=0, lt=2**62, description="of the sampler and, with a trial's number, of the trial")
    reference: dict[str, Any] = Field(
        {}, description="settings of the network whose parameters make 100 %, by dotted key, where they differ"
    )
    evidence: dict[str, Any] | None = Field(None, description="where exported settings come from")

    @model_validator(mode="before")
    @classmethod
    def _with_sections_of_methods(cls, content: Any, info: ValidationInfo) -> Any:
        if not isinstance(content, Mapping):
            return content
        content = with_unnamed(content)
        return {**content, **method_sections.checked(content, cls.model_fields, recorded=info.context == RECORDED)}

    @model_validator(mode="after")
    def _has_something_to_train(self) -> "Experiment":
        if self.task is None and self.objective == OBJECTIVE:
            raise ValueError("task: missing; add it, or an objective")
        return self

    @property
    def subject(self) -> str:
        """What is trained, in a word: the data set, or the task, or the objective."""
        return str(self.data.get("dataset", self.task or self.objective))

    @property
    def method_settings(self) -> methods.MethodSettings:
        """The section of the method.

        Raises:
            LookupError: there is no such method.
        """
        method = methods.load_method(self.method)
        return method.Settings.model_validate((self.model_extra or {}).get(method.name, Section()).model_dump())

    @property
    def sections_of_methods(self) -> tuple[str, ...]:
        """Their names: of the method's own section, and of those of other methods that stand beside it."""
        return tuple(self.model_extra or ())

    @property
    def other_methods(self) -> set[str]:
        """The built-in methods whose sections no trial reads."""
        return method_sections.others({"method": self.method, "search": self.search})

    @property
    def space(self) -> Space:
        """
        Raises:
            SpaceError: a line of `search` is none, or they do not fit together.
        """
        return Space({key: parse_line(spec) for key, spec in self.search.items()}, self.value)

    def value(self, key: str) -> Value:
        """The setting at a dotted key such as `oialr.cutoff`."""
        found: Any = self
        for part in key.split("."):
            content = vars(found) if isinstance(found, BaseModel) else found
            found = content[part] if part in content or content is found else (found.model_extra or {})[part]
        plain: Any = found.model_dump() if isinstance(found, BaseModel) else found
        return plain

    def with_settings(self, settings: Mapping[str, Any]) -> "Experiment":
        """The same experiment with some settings changed, by dotted key.

        Raises:
            ExperimentError: a key does not exist or a value is not allowed.
        """
        content = self.model_dump()
        scores.redirect(content, settings)
        method_sections.leave(content, settings)
        for key, value in settings.items():
            set_value(content, key, value, where="settings")
        method_sections.search_own(content)
        return validated(content, where="settings")

    def trial(self, settings: Mapping[str, Any]) -> "Experiment":
        """What a trial with some searched settings trains: percents of parameters go on referring to this network.

        Raises:
            ExperimentError: a key does not exist or a value is not allowed.
        """
        of_network = OF_THE_NETWORK if self.task else ()
        changed = {key: self.value(key) for key in settings if key.split(".")[0] in of_network}
        differing = {key: value for key, value in changed.items() if as_text(settings[key]) != as_text(value)}
        return self.with_settings(settings).model_copy(update={"reference": differing | self.reference})

    def epochs(self, settings: Mapping[str, Any]) -> int:
        """Epochs of a trial with these searched settings."""
        return int(settings.get("training.epochs", self.training.epochs))

    @property
    def finalist_trainings(self) -> int:
        """Of its trials; none where the seed is searched: there are no fresh ones then."""
        return 0 if "seed" in self.search else self.finalists.budget(self.trials)

    def starts(self) -> list[dict[str, Value]]:
        """The searched settings of each entry of `start_from`, filled up from the file's own values."""
        return [self.start(start) for start in self.start_from]

    def start(self, settings: Mapping[str, Value]) -> dict[str, Value]:
        """Some of the searched settings, filled up from the file's own values, as far as they are searched there."""
        return self.space.fill(settings)

    def fixed(self) -> "Experiment":
        """The experiment without its search: a file for `train`."""
        return self.model_copy(
            update={key: Experiment.model_fields[key].get_default(call_default_factory=True) for key in OF_THE_SEARCH}
        )

    def dump(self) -> dict[str, Any]:
        """The resolved settings as plain YAML content, in the order of this class; those of methods follow `method`."""
        content: dict[str, Any] = {}
        dumped = self.model_dump()
        for key in type(self).model_fields:
            content[key] = dumped[key]
            if key == "method":
                content |= {name: dumped[name] for name in self.sections_of_methods}
        content["score"] = {key: value for key, value in content["score"].items() if value is not None}
        optional = ("keep_weights", "loggers", "reference", "evidence")
        left_out = {"objective": OBJECTIVE} | ({} if self.task else _unnamed())
        return {
            key: value
            for key, value in content.items()
            if (value or key not in optional) and not (key in left_out and value == left_out[key])
        }


@cache
def _unnamed() -> dict[str, Any]:
    """What an experiment without a task need not say, with all settings."""
    training, schedule = Training.model_validate(UNNAMED["training"]), Schedule.model_validate(UNNAMED["schedule"])
    return {**UNNAMED, "training": training.model_dump(), "schedule": schedule.model_dump()}


def set_value(content: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Set one setting of an experiment's content, by dotted key.

    Raises:
        ExperimentError: on the way to it there is something that is no section.
    """
    *sections, last = key.split(".")
    target = content
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise ExperimentError(f"{where}: {key}: {section} is not a section")
    target[last] = value


def of_known_keys(content: Any, where: str, recorded: bool = False) -> Experiment:
    """An experiment's content, without asking its task, and of one that was `recorded` its method.

    Raises:
        ExperimentError: a key does not exist, or a value is not allowed.
    """
    if not isinstance(content, dict):
        raise ExperimentError(f"{where}: an experiment is a mapping with a task, data, model and training section")
    try:
        return Experiment.model_validate(content, context=RECORDED if recorded else None)
    except ValidationError as error:
        raise ExperimentError(f"{where}: {first_mistake(error, Experiment)}") from None


def validated(content: dict[str, Any], where: str) -> Experiment:
    """An experiment's content, checked but for its search, with its task's defaults filled in.

    Raises:
        ExperimentError: a key does not exist, or a value is not allowed.
    """
    experiment = of_known_keys(content, where)
    for key, value in _values({key: value for key, value in content.items() if key != "evidence"}):
        if isinstance(value, float) and not math.isfinite(value):
            raise ExperimentError(f"{where}: {key}: {value} is no number to work with; give a finite one")
        if not isinstance(value, (bool, int, float, str, type(None))):
            kind = type(value).__name__
            raise ExperimentError(f"{where}: {key}: {kind} is no plain value; give numbers, text, true, false or null")
    try:
        Evidence.model_validate(experiment.evidence or {})
    except ValidationError as error:
        raise ExperimentError(f"{where}: evidence.{first_mistake(error, Evidence)}") from None
    try:
        settings = tasks.load_settings(experiment.task)
    except LookupError as error:
        near = hint(experiment.task or "", tasks.BUILT_IN)
        raise ExperimentError(f"{where}: task: {error};{near}".rstrip(";")) from None
    try:
        resolved = settings.model_validate({"data": experiment.data, "model": experiment.model})
    except ValidationError as error:
        raise ExperimentError(f"{where}: {first_mistake(error, settings)}") from None
    except Exception as error:
        raise ExperimentError(f"{where}: task: {experiment.task}: {described(error)}") from error
    _find_own(experiment, where)
    return experiment.model_copy(update=resolved.model_dump())


def _find_own(experiment: Experiment, where: str) -> None:
    """Import the optimizer and the schedule that are named as `package.module:Name`."""
    for key, name, find in (
        ("training.optimizer", experiment.training.optimizer, load_optimizer),
        ("schedule.name", experiment.schedule.name, load_rate),
    ):
        try:
            if ":" in name:
                find(name)
        except LookupError as error:
            raise ExperimentError(f"{where}: {key}: {error}") from None


def _values(content: Any, key: str = "") -> Iterable[tuple[str, Any]]:
    """All values of nested mappings and lists, by dotted key."""
    if isinstance(content, Mapping):
        for name, value in content.items():
            yield from _values(value, f"{key}.{name}".lstrip("."))
    elif isinstance(content, (list, tuple)):
        for number, value in enumerate(content):
            yield from _values(value, f"{key}[{number}]")
    else:
        yield key, content


def flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
