"""The page of all settings, from their own descriptions: python docs/settings.py > docs/settings.md"""

import json
import types
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from oialr_hpo import methods, tasks
from oialr_hpo.experiment import Experiment
from oialr_hpo.extension import Room

HEAD = """# All settings

Made from the settings' own descriptions by `python docs/settings.py`. How a file is written, and what belongs together,
says [An experiment file](experiment.md). A duration is a whole number of optimizer steps, or a fraction of the run.

## Of an experiment
"""
COLUMNS = "| setting | values | default | what it is |\n|---|---|---|---|"
KINDS = {int: "whole number", float: "number", str: "text", bool: "`true`, `false`", Any: "anything"}
NULL = ", or `null`"
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def page() -> str:
    shown: dict[str, type[BaseModel]] = {}
    for name, section in sections(Experiment):
        if name == "score":  # where a written file has them
            shown |= of_methods()
        shown[name] = section
    parts = [HEAD, about(Experiment), table(Experiment, left_out=shown)]
    for name, section in shown.items():
        parts += [f"\n## {name}\n", about(section), table(section, f"{name}.")]
    for task in tasks.BUILT_IN:
        parts.append(f"\n## Of the task {task}\n")
        for name, section in sections(tasks.load_settings(task)):
            parts += [about(section), table(section, f"{name}."), ""]
    return "\n".join(parts).rstrip()


def of_methods() -> dict[str, type[BaseModel]]:
    """The settings of the built-in methods that have some."""
    settings = {name: methods.load_method(name).Settings for name in methods.METHODS.names()}
    return {name: section for name, section in settings.items() if section.model_fields}


def sections(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """The fields that have settings of their own; `NAME.METRIC` for those that have them for each metric."""
    for name, field in model.model_fields.items():
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield f"{name}.METRIC" if get_origin(field.annotation) is dict else name, part


def about(section: type[BaseModel]) -> str:
    lines = (section.__doc__ or "").strip().replace("*", r"\*").splitlines()
    return "".join(f"{line.strip()}\n" for line in lines)


def table(section: type[BaseModel], prefix: str = "", left_out: Collection[str] = ()) -> str:
    rows = [
        f"| `{prefix}{name}` | {values(field)} | {default(field)} | {field.description} |"
        for name, field in section.model_fields.items()
        if name not in left_out
    ]
    return "\n".join([COLUMNS, *rows])


def default(field: FieldInfo) -> str:
    return "required" if field.is_required() else f"`{json.dumps(field.default)}`"


def values(field: FieldInfo) -> str:
    """What a field may be, with its bounds."""
    text = in_rooms(field.metadata) or kind(field.annotation)
    without = text.removesuffix(NULL)
    return without + bounds(field.metadata) + text.removeprefix(without)


def kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if named := in_rooms(arguments):
        return named
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        kinds = [kind(each) for each in arguments if each is not type(None)]
        either = "duration" if "whole number, at least 0" in kinds else " or ".join(kinds)
        return either + NULL * (type(None) in arguments)
    if origin in (list, dict):
        if named := in_rooms(get_args(arguments[0])):
            return f"list of {named}"
        one, comma, its_bounds = kind(arguments[0]).partition(",")
        return f"list of {one}s{comma}{its_bounds}" if origin is list else "mapping"
    if arguments:  # with bounds
        return kind(arguments[0]) + bounds(annotation.__metadata__)
    return KINDS[annotation]


def in_rooms(metadata: Iterable[Any]) -> str:
    """The names of the files of a room, if there is one."""
    names = [name for each in metadata if isinstance(each, Room) for name in each.names()]
    return ", ".join(f"`{name}`" for name in [*names, "package.module:Class"]) if names else ""


def bounds(metadata: Iterable[Any]) -> str:
    """Such as `, at least 0, below 1`."""
    found = {
        name: getattr(each, name)
        for each in metadata
        for name in (*BOUNDS, "min_length", "max_length")
        if getattr(each, name, None) is not None
    }
    said = [f"{text} {written(found[name])}" for name, text in BOUNDS.items() if name in found]
    if "max_length" in found:
        least, most = found["min_length"], found["max_length"]
        said.append(f"{least} of them" if least == most else f"{least} to {most} of them")
    return "".join(f", {each}" for each in said)


def written(bound: float) -> str:
    return "2^62" if bound == 2**62 else f"{bound:,}"


if __name__ == "__main__":
    print(page())
