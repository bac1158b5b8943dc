"""What can be added is found by its name: a file of a room of this package, or `package.module:Class` of one's own."""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from oialr_hpo.mistake import described, hint


@dataclass(frozen=True)
class Room:
    """A package in which every file is one of a kind, and is called by the file's name, `_` read as `-`.

    Files whose names begin with `_` are what these share. As an annotation of a setting, `Annotated[str, ROOM]`, it
    checks that there is such a file, or that the name is `package.module:Class`; nothing is imported.

    Args:
        package: such as `oialr_hpo.samplers`.
        kind: what messages call what is there.
    """

    package: str
    kind: str

    @cache  # noqa: B019 (there are few rooms)
    def names(self) -> tuple[str, ...]:
        """The names of its files; none of them is imported."""
        spec = find_spec(self.package)
        files = pkgutil.iter_modules(spec.submodule_search_locations if spec else [])
        return tuple(file.name.replace("_", "-") for file in files if file.name[0] != "_" and not file.ispkg)

    def check(self, name: str) -> str:
        """The name itself.

        Raises:
            ValueError: there is nothing of this name; the message names the most similar one and all.
        """
        known = self.names()
        if name in known or ":" in name:
            return name
        choices = f"{', '.join(known)}, or package.module:Class"
        raise ValueError(f"no {self.kind} {name!r};{hint(name, known)} choose {choices}")

    def load(self, name: str) -> Any:
        """The one public class that the file of this name defines, or `package.module:Class`.

        Raises:
            LookupError: there is none, or it cannot be imported.
        """
        if name not in self.names():
            return resolve(name, self.kind, self.names())
        module = importlib.import_module(f"{self.package}.{name.replace('-', '_')}")
        own = [each for each in vars(module).values() if getattr(each, "__module__", None) == module.__name__]
        public = [each for each in own if isinstance(each, type) and not each.__name__.startswith("_")]
        if len(public) != 1:
            found = f"{module.__name__} has {len(public)} public classes"
            raise LookupError(f"{found}; the {self.kind} is to be the only one, begin the others' names with _")
        return public[0]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))


def resolve(path: str, kind: str = "objective", built_in: Iterable[str] = ()) -> Any:
    """Import `package.module:name`, or `FILE.py:name`.

    Raises:
        LookupError: the module cannot be imported, or the name does not exist.
    """
    module, _, name = path.rpartition(":") if ".py:" in path else path.partition(":")
    if not module or not name:
        known = ", ".join(built_in)
        raise LookupError(f"{path!r} is neither a built-in {kind}{known and f' ({known})'} nor package.module:Class")
    try:
        imported = _imported(module)
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


def importing() -> str | None:
    """The module that is being imported for a name, if any: what it starts as a script, it would start there too."""
    return _IMPORTING[-1] if _IMPORTING else None


_IMPORTING: list[str] = []


def _imported(module: str) -> ModuleType:
    with _noted(module):
        return _imported_file(Path(module)) if module.endswith(".py") else importlib.import_module(module)


@contextmanager
def _noted(module: str) -> Iterator[None]:
    _IMPORTING.append(module)
    try:
        yield
    finally:
        _IMPORTING.pop()


def _imported_file(file: Path) -> ModuleType:
    """A script as a module, called by its path; it finds what lies beside it."""
    name = str(file)
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, file)
    assert spec and spec.loader
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))
    sys.modules[name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(sys.modules[name])
    except BaseException:
        del sys.modules[name]
        raise
    return sys.modules[name]


def wrong_call(kind: type, like: type, methods: Iterable[str]) -> str | None:
    """Which of a class's methods cannot be called as those of the class that it is to be like; None where all can."""
    for name in methods:
        asked = inspect.signature(getattr(like, name)).parameters.values()
        positional = sum(each.kind is each.POSITIONAL_OR_KEYWORD for each in asked)
        by_name = [each.name for each in asked if each.kind is each.KEYWORD_ONLY]
        if wrong := cannot_take(kind, name, positional, by_name):
            return wrong
    return None


def cannot_take(kind: type, method: str, positional: int, by_name: Iterable[str]) -> str | None:
    """Why a class's method cannot be called with so many arguments, `self` among them, and these by name; or None."""
    found = inspect.getattr_static(kind, method)
    try:
        if inspect.isfunction(found):
            inspect.signature(found).bind(*[None] * positional, **dict.fromkeys(by_name))
    except TypeError as error:
        return f"{method}: {error}"
    return None
