"""What can be added is found by its name: a file of a room of this package, or `package.module:Class` of one's own.

A room's names are those of its files, `_` read as `-`; files whose names begin with `_` are what these share.
"""

import importlib
import pkgutil
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

from oialr_hpo.mistake import described, hint


def names(room: str) -> tuple[str, ...]:
    """The names of what the files of a room give, such as `oialr_hpo.samplers`; none of them is imported."""
    spec = find_spec(room)
    files = pkgutil.iter_modules(spec.submodule_search_locations if spec else [])
    return tuple(file.name.replace("_", "-") for file in files if not file.name.startswith("_") and not file.ispkg)


def check(name: str, room: str, kind: str) -> str:
    """The name itself, of a file of the room or `package.module:Class`.

    Raises:
        ValueError: there is no such file; the message names the most similar one and all.
    """
    known = names(room)
    if name in known or ":" in name:
        return name
    raise ValueError(f"no {kind} {name!r};{hint(name, known)} choose {', '.join(known)}, or package.module:Class")


def load(name: str, room: str, kind: str) -> Any:
    """The class that a file of the room defines, or `package.module:Class`.

    Raises:
        LookupError: there is none, or it cannot be imported.
    """
    if name not in names(room):
        return resolve(name, kind, names(room))
    module = importlib.import_module(f"{room}.{name.replace('-', '_')}")
    public = [each for each in vars(module).values() if isinstance(each, type) and each.__module__ == module.__name__]
    public = [each for each in public if not each.__name__.startswith("_")]
    if len(public) != 1:
        raise LookupError(
            f"{module.__name__} defines {len(public)} public classes; a {kind} is the only one of its file"
        )
    return public[0]


def resolve(path: str, kind: str = "objective", built_in: Iterable[str] = ()) -> Any:
    """Import `package.module:name`.

    Raises:
        LookupError: the module cannot be imported, or the name does not exist.
    """
    module, _, name = path.partition(":")
    if not module or not name:
        known = ", ".join(built_in)
        raise LookupError(f"{path!r} is neither a built-in {kind}{known and f' ({known})'} nor package.module:Class")
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        its_own = error.name is not None and f"{module}.".startswith(f"{error.name}.")
        remedy = "is its directory on PYTHONPATH?" if its_own else f"{module} needs it, install it"
        raise LookupError(f"{path!r}: {error}; {remedy}") from None
    except (Exception, SystemExit) as error:
        raise LookupError(f"{path!r}: {module} cannot be imported: {described(error)}") from None
    if not hasattr(imported, name):
        there = [*vars(imported), *getattr(imported, "__all__", ())]  # which a module may load when asked for
        raise LookupError(f"{path!r}: module {module} has no {name};{hint(name, there)}".rstrip(";"))
    return getattr(imported, name)
