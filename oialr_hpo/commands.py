"""What all commands share: their options, and one line with exit status 2 for the user's mistakes."""

import argparse
import errno
import os
import re
import sys
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, ParamSpec

from oialr_hpo.engines import launchers
from oialr_hpo.extension import Room
from oialr_hpo.mistake import LONGEST, PREFIX, Mistake, hint, one_line, reason
from oialr_hpo.runs.printing import Volume, volume
from oialr_hpo.runs.trial import RETRIED

P = ParamSpec("P")

COMMANDS = {
    "list": "the experiments that ship with the package",
    "init": "begin an experiment of your own: a commented file, and a task to change",
    "check": "whether a search could run here, before it is started",
    "search": "search the settings of an experiment",
    "status": "how a running or finished search stands",
    "report": "a search as a page to read, with charts and tables",
    "export": "the best settings of a search as files that train again",
    "train": "train with given settings, once per seed",
    "figures": "pictures of a trial, its course beside dense and its weights, or of analyses side by side",
    "reproduce": "tables of the paper, or methods compared on any experiment",
    "utilization": "utilized rank: how much of each layer's space the data use",
    "benchmark": "how fast things are, and how good the samplers",
    "completion": "what bash or zsh needs to complete these commands, their options and values",
}
_INSIDE = ("report", "utilization", "benchmark")
"""Commands that are not the front of their room."""

MISTAKEN = 2
INTERRUPTED = 75  # EX_TEMPFAIL of sysexits.h: not a failure, try again
KILLED_BY_INTERRUPT, CLOSED_PIPE = 130, 141  # as shells report SIGINT and SIGPIPE


def door(name: str) -> ModuleType:
    """The module of a command: `main` runs it, `parser` reads its options."""
    return import_module(f"oialr_hpo.{name}{'.__main__' if name in _INSIDE else ''}")


def command(main: Callable[P, None]) -> Callable[P, None]:
    """The main function of a command, with one line of the first rank and exit status 2 for the user's mistakes."""

    @wraps(main)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        _make_writable()
        before = volume.set(Volume.NORMAL)
        try:
            main(*args, **kwargs)
            sys.stdout.flush()
        except BrokenPipeError:  # `| head`
            with suppress(OSError, ValueError):  # else Python flushes there once more at its end, and complains
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(CLOSED_PIPE) from None
        except KeyboardInterrupt:
            raise SystemExit(KILLED_BY_INTERRUPT) from None
        except Mistake as error:
            _end(str(error))
        except OSError as error:
            _end(f"{error.filename}: {reason(error)}" if error.filename else reason(error))
        finally:
            volume.reset(before)

    return run


def _make_writable() -> None:
    """See that whatever is printed can be: where a stream is closed, and where its encoding lacks a character."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (open as long as the process)
        elif getattr(stream, "errors", None) == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _end(message: str) -> NoReturn:
    if launchers.first():
        with suppress(OSError):
            print(one_line(PREFIX + message, LONGEST), file=sys.stderr)
    raise SystemExit(MISTAKEN) from None


class Parser(argparse.ArgumentParser):
    """Of a command `python -m oialr_hpo.NAME`: says in one line what is wrong with its options.

    Args:
        name: of the command.
        about: what it does.
        example: arguments that its help shows.
    """

    def __init__(self, name: str, about: str, example: str):
        super().__init__(
            prog=f"python -m oialr_hpo.{name}",
            description=about,
            formatter_class=argparse.RawDescriptionHelpFormatter if "\n" in about else argparse.HelpFormatter,
        )
        self.example = f"{self.prog} {example}".rstrip()

    def format_help(self) -> str:
        """The example in one line, as it is copied."""
        return f"{super().format_help()}\nexample: {self.example}\n"

    def error(self, message: str) -> NoReturn:
        """Raises:
        Mistake: always.
        """
        if "--set" in self._option_string_actions and re.match(r"unrecognized arguments: [^-\s]\S*=", message):
            message += "; repeat --set before each KEY=VALUE"
        raise Mistake(f"{message}; --help lists the options")

    def add_changes(self) -> None:
        """`--set`, for commands that read an experiment."""
        self.add_argument(
            "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of the file"
        )

    def add_retry(self) -> None:
        """`--retry`, for commands that know `--resume`."""
        self.add_argument(
            "--retry",
            choices=[state.value for state in RETRIED],
            action="append",
            default=[],
            help="with --resume: run the trials again that raised or crashed (failed) or wanted more memory than there "
            "is (out_of_memory), now that their code or the machine is mended",
        )

    def add_volume(self, verbose: str) -> None:
        """`--quiet` and `--verbose`, which hold until the command ends.

        Args:
            verbose: what is printed too.
        """
        chosen = self.add_mutually_exclusive_group()
        sets: dict[str, Any] = {"action": _SetVolume, "nargs": 0}
        chosen.add_argument("-q", "--quiet", const=Volume.QUIET, help="print only the result, and errors", **sets)
        chosen.add_argument("-v", "--verbose", const=Volume.VERBOSE, help=f"print {verbose}", **sets)

    def add_room(self, option: str, room: Room, default: str, about: str) -> None:
        """An option for what has a file in a room, or is `package.module:Class`.

        Args:
            default: what is taken without it.
            about: what the best known of them are.
        """
        name = InRoom(room.names())
        choices = f"{', '.join(name.known)}, or package.module:Class; {about}"
        self.add_argument(option, type=name, metavar="NAME", help=f"{choices} (default: {default})")

    def add_data_directories(self) -> None:
        """Where the data is."""
        self.add_argument(
            "--data-dir",
            type=path,
            default=os.environ.get("OIALR_DATA") or None,
            metavar="DIR",
            help="where data sets lie (default: the environment variable OIALR_DATA)",
        )
        self.add_argument(
            "--stage-dir", type=path, metavar="DIR", help="on every node's local disk: the data is copied there once"
        )


class _SetVolume(argparse.Action):
    """Sets how much is printed."""

    def __call__(self, *_: object) -> None:
        volume.set(self.const)


def subcommand(
    arguments: Sequence[str] | None, what: str, usage: str, known: Mapping[str, str], more: str = ""
) -> tuple[str, list[str]] | None:
    """A name from the arguments of a command that is many (None: of this process), and the options behind it.

    Args:
        what: it is a name of.
        usage: the first line of the help.
        known: names, and what each is about.
        more: of the help, below them.

    Returns:
        None where the help was asked for, and is printed.

    Raises:
        Mistake: there is none of this name.
    """
    name, *options = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        width = max(map(len, known))
        lines = [f"  {each:{width}} {about}" for each, about in known.items()]
        print("\n".join([f"usage: {usage}", *lines, *([more] if more else [])]))
        return None
    if name not in known:
        raise Mistake(f"no {what} {name!r};{hint(name, known)} known: {', '.join(known)}")
    return name, options


@dataclass(frozen=True)
class InRoom:
    """An option's value as the name of what a room holds, or `package.module:Class`."""

    known: tuple[str, ...]

    def __call__(self, text: str) -> str:
        if text in self.known or ":" in text:
            return text
        raise argparse.ArgumentTypeError(f"invalid choice: {text!r} (choose from {', '.join(self.known)})")


@dataclass(frozen=True)
class ExperimentName:
    """An argument as an experiment that ships with the package, or the path of its file; whoever reads it checks it."""

    others: tuple[str, ...] = ()
    """Names that the command knows besides."""

    def __call__(self, text: str) -> str:
        return text


def written(files: Iterable[Path], before: Container[Path]) -> str:
    """A line for each of these files, with a word where it replaced one that was there `before`."""
    return "\n".join(f"{file} (replaced an earlier one)" if file in before else str(file) for file in files)


def path(text: str) -> Path:
    """An option's value as a path, `~` expanded."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no path")
    try:
        found = Path(text).expanduser()
        found.exists()
    except RuntimeError:
        raise argparse.ArgumentTypeError(f"{text}: no such user; write ./~ for a name that begins so") from None
    except OSError as error:
        remedy = "shorten it" if error.errno == errno.ENAMETOOLONG else "choose another"
        raise argparse.ArgumentTypeError(f"{text}: {reason(error)}; {remedy}") from None
    return found


def positive(text: str) -> int:
    """An option's value as a whole number above zero."""
    return _whole(text, 1, "a whole number above zero")


def natural(text: str) -> int:
    """An option's value as a whole number from zero on, such as a seed."""
    return _whole(text, 0, "a whole number from zero on")


def _whole(text: str, least: int, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) >= least):
        raise argparse.ArgumentTypeError(f"{text} is not {what}")
    return int(text)


def share(text: str) -> float:
    """An option's value as a number in (0, 1]."""
    return _number(text, lambda number: 0 < number <= 1, "a share above 0 and at most 1")


def factor(text: str) -> float:
    """An option's value as a number above zero, to multiply with."""
    return _number(text, lambda number: 0 < number < float("inf"), "a number above zero")


def not_negative(text: str) -> float:
    """An option's value as a number from zero on."""
    return _number(text, lambda number: 0 <= number < float("inf"), "a number from zero on")


def _number(text: str, fits: Callable[[float], bool], what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not fits(number):
        raise argparse.ArgumentTypeError(f"{text} is not {what}")
    return number
