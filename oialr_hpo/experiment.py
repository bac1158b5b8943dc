"""An experiment file: YAML <-> typed, checked settings, with one clear line per mistake."""

import math
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from oialr_hpo import score as scores
from oialr_hpo import tasks
from oialr_hpo.files import check_file
from oialr_hpo.mistake import Mistake, described, hint
from oialr_hpo.score import Bound, Score
from oialr_hpo.space import Space, SpaceError, Value, as_text, parse_parameter
from oialr_hpo.training.optimizer_names import check_optimizer_name

T = TypeVar("T")
Duration = Annotated[int, Ge(0)] | Annotated[float, Ge(0), Le(1)]
"""A whole number of optimizer steps, or a fraction of the run."""
Share = Annotated[float, Gt(0), Lt(1)]


class ExperimentError(Mistake):
    """A mistake in an experiment: one line with the file, the key and the remedy."""


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


OF_ALL_OPTIMIZERS = {
    "lr": "schedule.lr",
    "weight_decay": "training.weight_decay",
    "momentum": "training.momentum",
    "params": "the network",
}


class Training(Settings):
    """The training loop."""

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    accumulation_steps: int = Field(1, ge=1, description="so many batches make one optimizer step together")
    optimizer: str = Field("adamw", description="adamw, adam or sgd of torch, or one of timm's factory")
    optimizer_arguments: dict[str, Any] = Field({}, description="its own, such as {betas: [0.9, 0.98]}")
    weight_decay: float = Field(0.01, ge=0)
    decay_bias_and_norm: bool = Field(True, description="false: only matrices, and not those that a network exempts")
    layer_decay: float = Field(1.0, gt=0, le=1, description="learning rate of a layer, as a share of the next one's")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD, and of timm's optimizers that have one")
    clip_grad_norm: float = Field(0.0, description="largest gradient norm; 0 or less: off")
    ema_decay: float = Field(0.0, ge=0, lt=1, description="measure an average of the weights, w = d w + (1 - d) new")
    precision: Literal["auto", "bfloat16", "float16", "float32"] = Field("auto", description="auto: bfloat16 on a GPU")
    patience: int | None = Field(None, ge=1, description="epochs without a better score before the run ends")
    track: int = Field(0, ge=0, description="compare all weights with so many epochs before (paper: 5); 0: off")

    @field_validator("optimizer")
    @classmethod
    def _exists(cls, name: str) -> str:
        return check_optimizer_name(name)

    @field_validator("optimizer_arguments")
    @classmethod
    def _are_no_settings(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        for name, setting in OF_ALL_OPTIMIZERS.items():
            if name in arguments:
                raise ValueError(f"{name} is set as {setting}")
        return arguments


class Schedule(Settings):
    """The learning rate, set before every optimizer step.

    `cosine` is timm's CosineLRScheduler with its knobs; `min_lr` above `lr` makes the rate rise.
    `halving` multiplies by 0.5 after every epoch but the first (Autoformer).
    """

    name: Literal["cosine", "halving"] = "cosine"
    lr: float = Field(gt=0, description="the peak, where cosine starts after the warm-up")
    min_lr: float = Field(0.0, ge=0)
    warmup_lr: float = Field(0.0, ge=0)
    warmup: Duration = 0
    cooldown: Duration = 0
    cycle_mul: float = Field(1.0, gt=0)
    cycle_decay: float = Field(1.0, gt=0)
    cycle_limit: int = Field(1, ge=1)
    k_decay: float = Field(1.0, gt=0)


class OIALRSettings(Settings):
    """OIALR's own settings (paper, section 4), d, ν, β, α in this order."""

    delay: Duration = 0.333333333
    frequency: Duration = Field(default=0.034, description="steps between two updates")
    cutoff: float = Field(default=0.1, ge=0, lt=1)
    step_fraction: float = Field(default=0.1, gt=0, le=1)
    keep_first: bool = False
    keep_last: bool = False


SamplerName = Literal["evolution", "cmaes", "pso", "tpe", "gp", "cmaes-optuna", "nsga2", "random"]


MANY_GOALS: tuple[SamplerName, ...] = ("nsga2", "tpe", "gp", "random")
"""Samplers that know more than one goal."""


class Sampler(Settings):
    """Who proposes the next settings, and how. What is null is chosen to suit the number of workers and goals."""

    name: SamplerName | None = None
    population: int | None = Field(
        default=None, ge=2, le=100_000, description="parents to breed from; of NSGA-II and CMA-ES: a generation"
    )
    crossover: float = Field(default=0.5, ge=0, le=1, description="probability that a child has two parents")
    mutation: float = Field(default=1.0, gt=0, description="expected mutated genes of the most cautious children")
    random: float = Field(default=0.1, ge=0, le=1, description="share of the children that are drawn uniformly")


class Islands(Settings):
    """How the MPI ranks are grouped; every island breeds from the trials of its own ranks and from immigrants."""

    count: int | None = Field(default=None, ge=1, description="null: one per 16 ranks")
    migration: float = Field(
        default=0.9, ge=0, le=1, description="per island and finished generation, the chance to send some"
    )


class EarlyStopping(Settings):
    """Asynchronous successive halving, aware of OIALR's change-over; see oialr_hpo.engines.early_stopping."""

    enabled: bool = True
    factor: float = Field(default=2.0, gt=1, description="at every rung one trial in so many goes on")
    rungs: list[Share] = Field(
        default=[0.25, 0.5], min_length=1, description="shares of the run at which trials are judged"
    )
    recovery: float = Field(
        default=0.1, ge=0, le=1, description="share of the run after the change-over without judgement"
    )
    minimum: int = Field(default=4, ge=1, description="trials to compare with; with fewer, a trial goes on")


MOST_THREADS = 4096
"""Of a training on a CPU."""


class Evidence(BaseModel):
    """What `train` reads of where exported settings come from."""

    model_config = ConfigDict(extra="allow", strict=True)

    score: float | None = None
    trial: int | None = None
    seed: int | None = None
    threads: int | None = Field(None, ge=1, le=MOST_THREADS)
    untuned: dict[str, Any] = {}


OF_THE_SEARCH = (
    *("search", "start_from", "dense_baseline", "sampler", "islands", "early_stopping"),
    *("trials", "time_limit", "at_time_limit", "trial_timeout"),
)
"""Settings that only a search reads; the others say what one trial is."""
OF_THE_NETWORK = ("task", "data", "model")
"""Settings that may change how many parameters the dense network has."""


class Experiment(Settings):
    """One experiment: what is trained, how it is scored, and what a search may change."""

    task: str
    data: dict[str, Any]
    model: dict[str, Any]
    training: Training
    schedule: Schedule
    method: Literal["oialr", "dense"] = "oialr"
    oialr: OIALRSettings = Field(default_factory=OIALRSettings)
    score: Score
    constraints: dict[str, Bound] = {}
    search: dict[str, Any] = {}
    start_from: list[dict[str, Any]] = []
    dense_baseline: bool = Field(False, description="one trial of a search is the dense model, for comparison")
    sampler: Sampler = Field(default_factory=Sampler)
    islands: Islands = Field(default_factory=Islands)
    early_stopping: EarlyStopping = Field(default_factory=EarlyStopping)
    trials: int = Field(64, ge=1, description="of a search, over all workers")
    time_limit: str | None = Field(None, description="of a search, e.g. 30m or 4h")
    at_time_limit: Literal["finish", "interrupt"] = Field("finish", description="what running trials do then")
    trial_timeout: str | None = Field(None, description="a trial that runs longer has failed, e.g. 2h")
    seed: int = Field(0, ge=0, lt=2**62)
    reference: dict[str, Any] = Field(
        {}, description="settings of the network whose parameters make 100 %, by dotted key, where they differ"
    )
    evidence: dict[str, Any] | None = Field(None, description="where exported settings come from")

    @property
    def space(self) -> Space:
        return Space({key: parse_parameter(spec) for key, spec in self.search.items()})

    def value(self, key: str) -> Value:
        """The setting at a dotted key such as `oialr.cutoff`."""
        found: Any = self.model_dump()
        for part in key.split("."):
            found = found[part]
        return found

    def with_settings(self, settings: Mapping[str, Any]) -> "Experiment":
        """The same experiment with some settings changed, by dotted key.

        Raises:
            ExperimentError: a key does not exist or a value is not allowed.
        """
        content = self.model_dump()
        scores.redirect(content, settings)
        for key, value in settings.items():
            _set(content, key, value, where="settings")
        return _validate(content, where="settings")

    def trial(self, settings: Mapping[str, Any]) -> "Experiment":
        """What a trial with some searched settings trains: percents of parameters go on referring to this network.

        Raises:
            ExperimentError: a key does not exist or a value is not allowed.
        """
        changed = {key: self.value(key) for key in settings if key.split(".")[0] in OF_THE_NETWORK}
        differing = {key: value for key, value in changed.items() if as_text(settings[key]) != as_text(value)}
        return self.with_settings(settings).model_copy(update={"reference": differing | self.reference})

    def epochs(self, settings: Mapping[str, Any]) -> int:
        """Epochs of a trial with these searched settings."""
        return int(settings.get("training.epochs", self.training.epochs))

    def starts(self) -> list[dict[str, Value]]:
        """The searched settings of each entry of `start_from`, filled up from the file's own values."""
        return [self.start(start) for start in self.start_from]

    def start(self, settings: Mapping[str, Value]) -> dict[str, Value]:
        """Some of the searched settings, filled up from the file's own values."""
        return self.space.own({key: settings.get(key, self.value(key)) for key in self.search})

    def fixed(self) -> "Experiment":
        """The experiment without its search: a file for `train`."""
        return self.model_copy(
            update={key: Experiment.model_fields[key].get_default(call_default_factory=True) for key in OF_THE_SEARCH}
        )

    def dump(self) -> dict[str, Any]:
        """The resolved settings as plain YAML content, in the order of this class."""
        content = self.model_dump()
        content["score"] = {key: value for key, value in content["score"].items() if value is not None}
        return {key: value for key, value in content.items() if value or key not in ("reference", "evidence")}


def find(name: str, others: Iterable[str] = ()) -> Path:
    """The file of an experiment: a path to a YAML file, or the name of one that ships with the package.

    Args:
        others: names that the caller knows besides, for the message.

    Raises:
        ExperimentError: there is none; the message offers the nearest name.
    """
    if name.endswith((".yaml", ".yml")):
        try:
            path = Path(name).expanduser()
            check_file(path)
        except (Mistake, RuntimeError) as error:
            raise ExperimentError(str(error)) from None
        return path
    directory = shipped()
    known = {file.relative_to(directory).with_suffix("").as_posix(): file for file in directory.rglob("*.yaml")}
    if name in known:
        return known[name]
    listed = ", ".join(others := [*others, *sorted(known)])
    raise ExperimentError(f"no experiment {name!r};{hint(name, others)} known: {listed}, or a .yaml path")


def shipped() -> Path:
    """The directory of the experiments that ship with the package (beside it in a checkout)."""
    package = Path(__file__).parent
    inside = package / "search_spaces"
    return inside if inside.is_dir() else package.parent / "search_spaces"


def load(name: str, changes: Iterable[str] = ()) -> Experiment:
    """Read and check an experiment.

    Args:
        name: a shipped name or a path, see `find`.
        changes: `KEY=VALUE` strings that replace single settings; a searched key becomes fixed.

    Raises:
        ExperimentError: one line that names the file, the key and the remedy.
    """
    path = find(name)
    where = path.name
    content, changes = read(path), list(changes)
    scores.redirect(content, [change.partition("=")[0] for change in changes])
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key:
            raise ExperimentError(f"--set {change}: write KEY=VALUE, such as --set training.epochs=3")
        _fix(content, key, parse_yaml(text, f"--set {change}"), where=f"--set {change}")
    if content.get("search", ...) is None:
        content["start_from"] = None
    for section, nothing in (("search", {}), ("constraints", {}), ("start_from", [])):
        if content.get(section) is None:
            content[section] = nothing
    left_out = []
    for key, spec in list(_mapping(content, "search", where).items()):
        if spec is None:
            left_out.append(str(key))
            _leave_out(content, key)
        elif not isinstance(spec, (dict, list)):
            _fix(content, str(key), spec, where=f"{where}: search.{key}")
    for key, bound in list(_mapping(content, "constraints", where).items()):
        if bound is None:
            del content["constraints"][key]
    experiment = _validate(content, where)
    for key in left_out:
        _known(experiment, key, f"{where}: search")
    _check_search(experiment, where)
    return experiment


def read(path: Path) -> dict[str, Any]:
    """The content of a file, laid over that of the file beside it that it `extends`."""
    return _read(path, ())


def _read(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """The content of a file which those `above` extend, the first by the second and so on."""
    from oialr_hpo import strict_yaml

    try:
        content = strict_yaml.read(path)
    except Mistake as error:
        raise ExperimentError(str(error)) from None
    if not isinstance(content, dict):
        raise ExperimentError(f"{path.name}: an experiment is a mapping with a task, data, model and training section")
    extended = content.pop("extends", None)
    if extended is None:
        return content
    beside = path.parent / str(extended)
    chain = (*above, path.resolve())
    if not isinstance(extended, str) or not beside.is_file():
        raise ExperimentError(f"{path.name}: extends: no other file {extended} beside it")
    if beside.resolve() in chain or len(chain) > strict_yaml.DEEPEST:
        names = " extends ".join(file.name for file in (*chain, beside.resolve()))
        why = "the files extend each other" if beside.resolve() in chain else "so many files cannot extend each other"
        raise ExperimentError(f"{path.name}: extends: {why}: {names}; take one of these lines out")
    below = _read(beside, chain)
    scores.redirect(below, flatten({"score": content.get("score")}))
    lines = {key: below[key] | content[key] for key in WHOLE_LINES if _both_map(below, content, key)}
    return _overlay(below, content) | lines


WHOLE_LINES = ("search", "constraints")
"""Sections of which each line replaces the one it extends as a whole: a range, or a bound."""


def _both_map(one: dict[str, Any], other: dict[str, Any], key: str) -> bool:
    return isinstance(one.get(key), dict) and isinstance(other.get(key), dict)


def _overlay(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Nested settings of which `above` replaces some."""
    merged = dict(below)
    for key, value in above.items():
        merged[key] = _overlay(below[key], value) if _both_map(below, above, key) else value
    return merged


def prepare_data(experiment: Experiment, data_dir: Path | None) -> None:
    """Make sure that the experiment's data is there.

    Raises:
        DataError: it is not; the message says where to put it.
    """
    _ask_task(experiment, lambda settings: settings.prepare_data(data_dir))


def find_data(experiment: Experiment, data_dir: Path | None) -> dict[str, Path]:
    """The files of the experiment's data, by their names below a data directory.

    Raises:
        DataError: there are none; the message says where to put them.
    """
    return _ask_task(experiment, lambda settings: settings.find_data(data_dir))


def _ask_task(experiment: Experiment, question: Callable[[tasks.TaskSettings], T]) -> T:
    """The answer of the settings of an experiment's task, which may be of the user's own class."""
    settings = tasks.load_settings(experiment.task)
    try:
        return question(settings.model_validate({"data": experiment.data, "model": experiment.model}))
    except (Mistake, OSError):
        raise
    except Exception as error:
        raise ExperimentError(f"task: {experiment.task}: {described(error)}") from error


def parse_yaml(text: str, where: str) -> Any:
    """The content of a YAML text, see `oialr_hpo.strict_yaml`.

    Raises:
        ExperimentError: the text is not YAML.
    """
    from oialr_hpo import strict_yaml  # here: of all ranks of a search only the first one reads files

    try:
        return strict_yaml.load(text, where)
    except Mistake as error:
        raise ExperimentError(str(error)) from None


def _fix(content: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Set one setting to a fixed value; `search.KEY` changes a range instead."""
    search = _mapping(content, "search", where)
    if key.startswith("search."):
        search[key.removeprefix("search.")] = value
        return
    _leave_out(content, key)
    _set(content, key, value, where)


def _leave_out(content: dict[str, Any], key: str) -> None:
    """Search a setting no more, so that it keeps its own value."""
    content["search"].pop(key, None)
    starts = content.get("start_from")
    for start in starts if isinstance(starts, list) else ():
        if isinstance(start, dict):
            start.pop(key, None)


def _set(content: dict[str, Any], key: str, value: Any, where: str) -> None:
    *sections, last = key.split(".")
    target = content
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise ExperimentError(f"{where}: {key}: {section} is not a section")
    target[last] = value


def _mapping(content: dict[str, Any], section: str, where: str) -> dict[str, Any]:
    found = content.setdefault(section, {})
    if found is None:
        found = content[section] = {}
    if not isinstance(found, dict):
        raise ExperimentError(f"{where}: {section}: expected a mapping of KEY: VALUE lines")
    return found


def recorded(content: Any, where: str) -> Experiment:
    """The experiment that a run directory recorded, whose task need not be installed here.

    Raises:
        ExperimentError: the record is damaged.
    """
    experiment = _of_known_keys(content, where)
    _check_lines(experiment, where)
    return experiment


def completed(experiment: Experiment) -> Experiment:
    """A recorded experiment with the task's settings that its version did not know yet, at their defaults."""
    with suppress(LookupError, ValidationError):
        settings = tasks.load_settings(experiment.task)
        resolved = settings.model_validate({"data": experiment.data, "model": experiment.model})
        return experiment.model_copy(update=resolved.model_dump())
    return experiment


def _of_known_keys(content: Any, where: str) -> Experiment:
    if not isinstance(content, dict):
        raise ExperimentError(f"{where}: an experiment is a mapping with a task, data, model and training section")
    try:
        return Experiment.model_validate(content)
    except ValidationError as error:
        raise ExperimentError(f"{where}: {_first_line(error, Experiment)}") from None


def _validate(content: dict[str, Any], where: str) -> Experiment:
    experiment = _of_known_keys(content, where)
    for key, value in _values({key: value for key, value in content.items() if key != "evidence"}):
        if isinstance(value, float) and not math.isfinite(value):
            raise ExperimentError(f"{where}: {key}: {value} is no number to work with; give a finite one")
        if not isinstance(value, (bool, int, float, str, type(None))):
            kind = type(value).__name__
            raise ExperimentError(f"{where}: {key}: {kind} is no plain value; give numbers, text, true, false or null")
    try:
        Evidence.model_validate(experiment.evidence or {})
    except ValidationError as error:
        raise ExperimentError(f"{where}: evidence.{_first_line(error, Evidence)}") from None
    try:
        settings = tasks.load_settings(experiment.task)
    except LookupError as error:
        raise ExperimentError(f"{where}: task: {error};{hint(experiment.task, tasks.BUILT_IN)}".rstrip(";")) from None
    try:
        resolved = settings.model_validate({"data": experiment.data, "model": experiment.model})
    except ValidationError as error:
        raise ExperimentError(f"{where}: {_first_line(error, settings)}") from None
    except Exception as error:
        raise ExperimentError(f"{where}: task: {experiment.task}: {described(error)}") from error
    return experiment.model_copy(update=resolved.model_dump())


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


def _check_lines(experiment: Experiment, where: str) -> None:
    """Every line of `search` is one, of a key that there is."""
    for key, spec in experiment.search.items():
        _known(experiment, key, f"{where}: search")
        try:
            parse_parameter(spec)
        except SpaceError as error:
            raise ExperimentError(f"{where}: search.{key}: {error}") from None


def _check_search(experiment: Experiment, where: str) -> None:
    _check_lines(experiment, where)
    meant: dict[tuple[str, str], Value] = {}
    for key, value in experiment.space.corners():
        try:
            as_set = as_text(experiment.with_settings({key: value}).value(key))
        except ExperimentError as error:
            raise ExperimentError(f"{where}: search.{key}: {str(error).removeprefix('settings: ')}") from None
        if (key, as_set) in meant:
            same = f"{meant[key, as_set]} and {value}"
            raise ExperimentError(f"{where}: search.{key}: {same} are the same for this setting; keep one")
        meant[key, as_set] = value
    for number, start in enumerate(experiment.start_from):
        for key in start:
            _known(experiment, key, f"{where}: start_from[{number}]")
            if key not in experiment.search:
                raise ExperimentError(
                    f"{where}: start_from[{number}].{key}: not searched; add it to search or remove it"
                )
    for number, start in enumerate(experiment.start_from):
        try:
            experiment.space.encode(experiment.start(start))
        except SpaceError as error:
            raise ExperimentError(f"{where}: start_from[{number}]: {error}; {_without_start(experiment)}") from None
    for key in experiment.reference:
        _known(experiment, key, f"{where}: reference")
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
    if goals > 1 and experiment.sampler.name not in (None, *MANY_GOALS):
        raise ExperimentError(
            f"{where}: sampler.name: {experiment.sampler.name} knows one goal, score names {goals}; "
            f"choose one of {', '.join(MANY_GOALS)}"
        )


def _without_start(experiment: Experiment) -> str:
    """How to go on without the starts that lie outside of the search space."""
    from oialr_hpo import strict_yaml

    fitting = []
    for start, settings in zip(experiment.start_from, experiment.starts(), strict=True):
        with suppress(SpaceError):
            experiment.space.encode(settings)
            fitting.append(start)
    change = shlex.quote(f"start_from={strict_yaml.dump(fitting, default_flow_style=True, width=math.inf).strip()}")
    how = f": --set {change}" if len(change) <= 120 else f" of start_from, {len(fitting)} of them fit"
    return f"widen the range, or leave that start out{how}"


def _known(experiment: Experiment, key: str, where: str) -> None:
    fixed = (*OF_THE_SEARCH, "score", "constraints", "reference", "evidence")
    known = [k for k in flatten(experiment.model_dump()) if k.split(".")[0] not in fixed]
    if key not in known:
        raise ExperimentError(f"{where}.{key}: no such setting;{hint(key, known)}".rstrip(";"))


def flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def seconds(duration: str) -> float:
    """Seconds of a duration such as 90s, 30m, 4h or 1d.

    Raises:
        ValueError: it is none of these.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", duration)
    if not match or float(match[1]) <= 0:
        raise ValueError(f"{duration!r} is not a duration; write 90s, 30m, 4h or 1d")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def _first_line(error: ValidationError, model: type[BaseModel]) -> str:
    """The first mistake as `key: what; remedy`, with the nearest known key for one that does not exist."""
    errors = error.errors(include_url=False)
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    path = [str(part) for part in first["loc"] if not str(part).startswith(("constrained", "int", "float["))]
    path = [part for part in path if part not in ("int", "float")]
    key, message = ".".join(path), first["msg"]
    if first["type"] == "extra_forbidden":
        known = list(_fields(model, path[:-1]))
        listed = f"known: {', '.join(known)}" if known else f"{'.'.join(path[:-1])} has no settings"
        return f"{key}: unknown key;{hint(path[-1], known)} {listed}"
    if first["type"] == "value_error":
        return f"{key}: {first['ctx']['error']}"
    if first["type"] == "missing":
        return f"{key}: missing; add it"
    if len({e["loc"][: len(path)] for e in errors}) == 1 and len(errors) > 1:
        return f"{key}: {first['input']!r} is neither a whole number of steps nor a fraction of the run in [0, 1]"
    return f"{key}: {message[0].lower()}{message[1:]}, not {first['input']!r}"


def _fields(model: type[BaseModel], path: list[str]) -> Iterable[str]:
    for part in path:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        nested = [a for a in (annotation, *get_args(annotation)) if isinstance(a, type) and issubclass(a, BaseModel)]
        if not nested:
            return []
        model = nested[0]
    return model.model_fields
