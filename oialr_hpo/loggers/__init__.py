"""Where else a search tells its news: a file for each logger, found by its name.

The one public class of a file extends `Logger`; `loggers` of an experiment lists the files' names, or
`package.module:Class` for one's own. The loggers live in one process beside the search, which follows the append-only
trial files (`_following`): whatever ranks a search has, there is one writer, and the search does not wait for it. The
files here import what they need when a search begins, not before.
"""

from collections.abc import Iterable
from importlib.util import find_spec

from oialr_hpo.experiment import LOGGERS
from oialr_hpo.extension import wrong_call
from oialr_hpo.loggers._logger import Logger, name, numbers, results
from oialr_hpo.mistake import Mistake

__all__ = ["CALLS", "Logger", "LoggerError", "load", "name", "numbers", "results"]

CALLS = ("search_begins", "trial_begins", "epoch", "trial_ends", "search_ends")
"""What a logger hears."""


class LoggerError(Mistake):
    """A logger that cannot be used; the message says why."""


def load(names: Iterable[str]) -> dict[str, type[Logger]]:
    """The classes of loggers, by their names.

    Raises:
        LoggerError: there is none of a name, it is no logger, or it needs a package that is not installed.
    """
    return {each: _load(each) for each in names}


def _load(name: str) -> type[Logger]:
    try:
        loaded = LOGGERS.load(name)
    except LookupError as error:
        raise LoggerError(f"loggers: {error}") from None
    if not (isinstance(loaded, type) and issubclass(loaded, Logger)):
        raise LoggerError(f"loggers: {name!r} is no class that extends {__name__}.Logger")
    if wrong := wrong_call(loaded, Logger, CALLS):
        raise LoggerError(f"loggers: {name}.{wrong}; see {__name__}.Logger")
    for package in loaded.needs:
        spec = find_spec(package)
        if spec is None or spec.origin is None:  # a directory of that name, such as W&B leaves, is no package
            remedy = f'pip install "oialr_hpo[{name}]"' if name in LOGGERS.names() else f"pip install {package}"
            raise LoggerError(f"loggers: {name} needs the package {package}: {remedy}")
    return loaded
