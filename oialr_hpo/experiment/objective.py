"""An objective: the function that is run for every trial, by the name under which training processes find it.

That is `package.module:function`, or `FILE.py:function` for one of a script.
"""

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from oialr_hpo.extension import resolve
from oialr_hpo.mistake import Mistake

OBJECTIVE = "oialr_hpo.objective:evaluate"
"""Trains the task, unless an experiment has an objective of its own."""
GIVEN = ("seed", "worker", "threads", "data_dir", "checkpoint")
"""What an objective is called with by name, after the experiment."""
UNNAMED: Mapping[str, Any] = {
    **{"task": None, "data": {}, "model": {}},
    **{"training": {"epochs": 1, "batch_size": 1}, "schedule": {"lr": 1e-3}},
}
"""What an experiment without a task need not say."""
REMEDY = "define it with def in a module, such as my_loop.py, and give my_loop.{name} or 'my_loop:{name}'"


def checked_name(name: str) -> str:
    """The name itself, of a file with its whole path; nothing is imported.

    Raises:
        ValueError: it is none.
    """
    module, _, function = name.rpartition(":")
    if not module or not function.isidentifier():
        raise ValueError(f"{name!r} names no function; write package.module:function")
    return f"{Path(module).expanduser().absolute()}:{function}" if module.endswith(".py") else name


def name_of(objective: str | Callable[..., Any]) -> str:
    """The name of a function, or the name that is given.

    Raises:
        Mistake: training processes would not find it.
    """
    if isinstance(objective, str):
        return objective
    path, module = getattr(objective, "__qualname__", ""), getattr(objective, "__module__", None)
    name = path if path.isidentifier() else "train"
    if not path.isidentifier() or getattr(sys.modules.get(module or ""), path, None) is not objective:
        shown = path or type(objective).__name__
        raise Mistake(f"objective: training processes cannot find {shown} by a name; {REMEDY.format(name=name)}")
    if module != "__main__":
        return f"{module}:{name}"
    main = sys.modules["__main__"]
    if main.__spec__:  # of python -m
        return f"{main.__spec__.name}:{name}"
    file = getattr(main, "__file__", None)
    if not file or not Path(file).is_file() or inspect.getfile(objective) != file:
        where = "is of a notebook or an interactive session, which training processes cannot import"
        raise Mistake(f"objective: {name} {where}; {REMEDY.format(name=name)}")
    return checked_name(f"{file}:{name}")


def load_objective(name: str, given: Iterable[str] = GIVEN) -> Callable[..., Any]:
    """The function of a name.

    Raises:
        Mistake: it cannot be imported, or cannot be called with an experiment and what is `given`, by name.
    """
    try:
        found = resolve(name)
    except LookupError as error:
        raise Mistake(f"objective: {error}") from None
    if not callable(found):
        raise Mistake(f"objective: {name!r} is no function but {type(found).__name__}")
    try:
        inspect.signature(found).bind(None, **dict.fromkeys(given))
    except TypeError as error:
        how = f"it is called with an experiment and, by name, {', '.join(given)}"
        raise Mistake(f"objective: {name!r}: {error}; {how}: end its parameters with **_") from None
    except ValueError:  # it does not tell
        pass
    function: Callable[..., Any] = found
    return function


def is_loaded(name: str) -> bool:
    """Whether this process has imported the module of an objective."""
    return name.rpartition(":")[0] in sys.modules


def records(returned: Any) -> Any:
    """The records of a trial, which an objective yields; one that it returns is the only one."""
    return [returned] if isinstance(returned, Mapping) else returned


def with_unnamed(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """An experiment's content with what it need not say, where it has an objective of its own in place of a task."""
    if content.get("task") is not None or content.get("objective", OBJECTIVE) == OBJECTIVE:
        return content
    given = {key: content.get(key, value) for key, value in UNNAMED.items()}
    nested = {key: UNNAMED[key] | value for key, value in given.items() if isinstance(value, dict)}
    return {**content, **given, **nested}
