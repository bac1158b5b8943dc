"""A section of an experiment file: typed and checked, with one clear line per mistake."""

from collections.abc import Iterable, Sequence
from typing import Annotated, get_args

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ConfigDict, ValidationError

from oialr_hpo.mistake import hint

Duration = Annotated[int, Ge(0)] | Annotated[float, Ge(0), Le(1)]
"""A whole number of optimizer steps, or a fraction of the run."""
Share = Annotated[float, Gt(0), Lt(1)]


def steps(duration: Duration, total: int) -> int:
    """A duration in optimizer steps: a whole number is one already, a fraction is one of `total` steps."""
    return duration if isinstance(duration, int) else round(duration * total)


class Section(BaseModel):
    """A section of an experiment file; this one has no settings."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def first_mistake(error: ValidationError, model: type[BaseModel], section: str = "") -> str:
    """The first mistake as `key: what; remedy`, with the nearest known key for one that does not exist.

    Args:
        section: of which this is the content.
    """
    errors = error.errors(include_url=False)
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    path = [str(part) for part in first["loc"] if not str(part).startswith(("constrained", "int", "float["))]
    path = [part for part in path if part not in ("int", "float")]
    key, message = ".".join(filter(None, [section, *path])), first["msg"]
    if first["type"] == "extra_forbidden":
        return unknown_key([*filter(None, [section]), *path], _fields(model, path[:-1]))
    if first["type"] == "value_error":
        return f"{key}: {first['ctx']['error']}" if key else str(first["ctx"]["error"])
    if first["type"] == "missing":
        return f"{key}: missing; add it"
    if len({e["loc"][: len(path)] for e in errors}) == 1 and len(errors) > 1:
        return f"{key}: {first['input']!r} is neither a whole number of steps nor a fraction of the run in [0, 1]"
    return f"{key}: {message[0].lower()}{message[1:]}, not {first['input']!r}"


def unknown_key(path: Sequence[str], known: Iterable[str]) -> str:
    """Says that there is no such key in its section, and which there are."""
    *section, key = path
    names = list(known)
    listed = f"known: {', '.join(names)}" if names else f"{'.'.join(section)} has no settings"
    return f"{'.'.join(path)}: unknown key;{hint(key, names)} {listed}"


def _fields(model: type[BaseModel], path: list[str]) -> Iterable[str]:
    for part in path:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        nested = [a for a in (annotation, *get_args(annotation)) if isinstance(a, type) and issubclass(a, BaseModel)]
        if not nested:
            return []
        model = nested[0]
    return model.model_fields
