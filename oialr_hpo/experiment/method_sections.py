"""What an experiment's content says of methods: their sections, each under its method's name, and what is searched."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from pydantic import ConfigDict, ValidationError

from oialr_hpo.methods import DEFAULT, METHODS, load_method
from oialr_hpo.mistake import described
from oialr_hpo.section import Section, first_mistake, unknown_key


class MethodSection(Section):
    """Checked settings of a method; those of a user's own class reach processes that never import it."""

    model_config = ConfigDict(extra="allow")


def checked(content: Mapping[str, Any], fields: Collection[str], recorded: bool) -> dict[str, MethodSection]:
    """The sections of the method and of the other built-in ones that the content has or searches, by name.

    Args:
        content: of an experiment.
        fields: what else an experiment has.
        recorded: the method need not be installed here, or be what it was then.

    Raises:
        ValueError: a key does not exist, or a value is not allowed; the message names both.
    """
    kinds = _kinds(content, fields, recorded)
    for key in content:
        if key not in fields and key not in kinds:
            raise ValueError(unknown_key([str(key)], _keys(fields)))
    sections = {}
    for name, settings in kinds.items():
        values = content.get(name, {})
        if isinstance(values, MethodSection):
            values = values.model_dump()
        try:
            values = settings.model_validate(values).model_dump()
        except ValidationError as error:
            if not (recorded and name not in METHODS.names() and isinstance(values, Mapping)):
                raise ValueError(first_mistake(error, settings, name)) from None
        except Exception as error:  # of a class of the user's
            raise ValueError(f"{name}: {described(error)}") from error
        sections[name] = MethodSection.model_validate(values)
    return sections


def leave(content: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Drop what is of an own method that changes replace by another one; sections of built-in methods may stay.

    Args:
        content: of an experiment, changed in place.
        changes: by dotted key, about to be made.
    """
    method = content.get("method")
    if changes.get("method", method) == method or method in METHODS.names():
        return
    try:
        name = load_method(str(method)).name
    except LookupError:
        return
    content.pop(name, None)
    _search_without(content, lambda key: key.startswith(f"{name}."))


def search_own(content: dict[str, Any]) -> None:
    """Leave of `search` and `start_from` what is of the method and of no method: a file has lines of several methods.

    A key that another method does not have stays, to be refused.

    Args:
        content: of an experiment, changed in place.
    """
    of_others = others(content)

    def is_of_another(key: str) -> bool:
        name, _, setting = key.partition(".")
        return name in of_others and setting in load_method(name).Settings.model_fields

    _search_without(content, is_of_another)


def others(content: Mapping[str, Any]) -> set[str]:
    """The built-in methods that an experiment's content does not train with: neither its own nor one it searches."""
    search = content.get("search")
    line = search.get("method") if isinstance(search, Mapping) else None
    choices = line.get("choices") if isinstance(line, Mapping) else [line]
    trained = [content.get("method", DEFAULT), *(choices if isinstance(choices, list) else ())]
    return {name for name in METHODS.names() if name not in trained}


def _search_without(content: dict[str, Any], left_out: Callable[[str], bool]) -> None:
    """Drop keys from `search` and from the starts, and of starts that become the same all but the first."""

    def without(lines: Any) -> Any:
        return {k: line for k, line in lines.items() if not left_out(str(k))} if isinstance(lines, dict) else lines

    search, starts = content.get("search"), content.get("start_from")
    content |= {"search": without(search)} if search else {}
    if isinstance(starts, list) and (less := [without(start) for start in starts]) != starts:
        content["start_from"] = [start for number, start in enumerate(less) if start not in less[:number]]


def _kinds(content: Mapping[str, Any], fields: Collection[str], recorded: bool) -> dict[str, type[Section]]:
    """Who checks the sections that the content has, or whose defaults it needs."""
    method = content.get("method", DEFAULT)
    kinds: dict[str, type[Section]] = {}
    try:
        chosen = load_method(METHODS.check(method)) if isinstance(method, str) else None
        if chosen and chosen.name in fields:
            raise LookupError(f"{method!r} is no method: its name {chosen.name} is another section's; choose another")
        if chosen and chosen.Settings.model_fields:
            kinds[chosen.name] = chosen.Settings
    except (LookupError, ValueError) as error:
        if not recorded or ":" not in method:
            raise ValueError(f"method: {error}") from None
        kinds |= {key: MethodSection for key in content if key not in fields and isinstance(content[key], Mapping)}
    search = content.get("search")
    needed = {*content, *(str(key).partition(".")[0] for key in (search if isinstance(search, Mapping) else ()))}
    if method in METHODS.names() and not kinds:
        needed.add(DEFAULT)  # which it is compared with
    return kinds | _built_in(needed)


def _built_in(names: Collection[str]) -> dict[str, type[Section]]:
    """The settings of those among the built-in methods that have some."""
    kinds = {name: load_method(name).Settings for name in METHODS.names() if name in names}
    return {name: kind for name, kind in kinds.items() if kind.model_fields}


def _keys(fields: Collection[str]) -> list[str]:
    """All keys of an experiment, in their order."""
    of_methods = _built_in(METHODS.names())
    return [key for field in fields for key in ([field, *of_methods] if field == "method" else [field])]
