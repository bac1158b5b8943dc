"""An experiment from its YAML file, laid over those it extends and with single settings changed; or from a record."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from oialr_hpo import tasks
from oialr_hpo.experiment import method_sections
from oialr_hpo.experiment import score as scores
from oialr_hpo.experiment.checks import check_known, check_lines, check_search
from oialr_hpo.experiment.experiment import Experiment, ExperimentError, flatten, of_known_keys, set_value, validated
from oialr_hpo.files import check_file
from oialr_hpo.mistake import Mistake, hint


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
    if file := known().get(name):
        return file
    listed = ", ".join(others := [*others, *known()])
    raise ExperimentError(f"no experiment {name!r};{hint(name, others)} known: {listed}, or a .yaml path")


def known() -> dict[str, Path]:
    """The files of the experiments that ship with the package, by their names."""
    directory = shipped()
    files = {file.relative_to(directory).with_suffix("").as_posix(): file for file in directory.rglob("*.yaml")}
    return dict(sorted(files.items()))


def shipped() -> Path:
    """The directory of the experiments that ship with the package (beside it in a checkout)."""
    package = Path(__file__).parent.parent
    inside = package / "search_spaces"
    return inside if inside.is_dir() else package.parent / "search_spaces"


def load(name: str, changes: Iterable[str] = (), below: Mapping[str, Any] | None = None) -> Experiment:
    """Read and check an experiment.

    Args:
        name: a shipped name or a path, see `find`.
        changes: `KEY=VALUE` strings that replace single settings; a searched key becomes fixed.
        below: settings that the file may leave out.

    Raises:
        ExperimentError: one line that names the file, the key and the remedy.
    """
    path = find(name)
    return changed({**(below or {}), **read(path)}, changes, path.name)


def changed(content: dict[str, Any], changes: Iterable[str], where: str) -> Experiment:
    """Check an experiment's content with single settings changed, see `load`.

    Args:
        content: changed in place.
        where: its name, for messages.

    Raises:
        ExperimentError: one line that names the key and the remedy.
    """
    changes = list(changes)
    scores.redirect(content, [change.partition("=")[0] for change in changes])
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key:
            raise ExperimentError(f"--set {change}: write KEY=VALUE, such as --set training.epochs=3")
        value = parse_yaml(text, f"--set {change}")
        method_sections.leave(content, {key: value})
        _fix(content, key, value, where=f"--set {change}")
    if content.get("search", ...) is None:
        content["start_from"] = None
    for section, nothing in (("search", {}), ("constraints", {}), ("start_from", [])):
        if content.get(section) is None:
            content[section] = nothing
    method_sections.search_own(content)
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
    experiment = validated(content, where)
    for key in left_out:
        check_known(experiment, key, f"{where}: search")
    check_lines(experiment, where)
    experiment = _without_unsearched(experiment)
    check_search(experiment, where)
    return experiment


def _without_unsearched(experiment: Experiment) -> Experiment:
    """Its starts without settings whose lines' conditions nowhere hold, and of those that become the same the first."""
    unsearched = experiment.search.keys() - experiment.space.parameters.keys()
    starts = [{key: value for key, value in start.items() if key not in unsearched} for start in experiment.start_from]
    if starts == experiment.start_from:
        return experiment
    unique = [start for number, start in enumerate(starts) if start not in starts[:number]]
    return experiment.model_copy(update={"start_from": unique})


def read(path: Path) -> dict[str, Any]:
    """The content of a file, laid over that of the file beside it that it `extends`."""
    return _read(path, ())


def _read(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """The content of a file which those `above` extend, the first by the second and so on."""
    from oialr_hpo.experiment import strict_yaml

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
    method_sections.leave(below, content)
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


def parse_yaml(text: str, where: str) -> Any:
    """The content of a YAML text, see `oialr_hpo.experiment.strict_yaml`.

    Raises:
        ExperimentError: the text is not YAML.
    """
    from oialr_hpo.experiment import strict_yaml  # here: of all ranks of a search only the first one reads files

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
    set_value(content, key, value, where)


def _leave_out(content: dict[str, Any], key: str) -> None:
    """Search a setting no more, so that it keeps its own value."""
    content["search"].pop(key, None)
    starts = content.get("start_from")
    for start in starts if isinstance(starts, list) else ():
        if isinstance(start, dict):
            start.pop(key, None)


def _mapping(content: dict[str, Any], section: str, where: str) -> dict[str, Any]:
    found = content.setdefault(section, {})
    if found is None:
        found = content[section] = {}
    if not isinstance(found, dict):
        raise ExperimentError(f"{where}: {section}: expected a mapping of KEY: VALUE lines")
    return found


def recorded(content: Any, where: str) -> Experiment:
    """The experiment that a run directory recorded, whose task and method need not be installed here.

    Raises:
        ExperimentError: the record is damaged.
    """
    experiment = of_known_keys(content, where, recorded=True)
    check_lines(experiment, where)
    return experiment


def completed(experiment: Experiment) -> Experiment:
    """A recorded experiment with the task's settings that its version did not know yet, at their defaults."""
    with suppress(LookupError, ValidationError):
        settings = tasks.load_settings(experiment.task)
        resolved = settings.model_validate({"data": experiment.data, "model": experiment.model})
        return experiment.model_copy(update=resolved.model_dump())
    return experiment
