"""`python -m oialr_hpo.completion SHELL`: what a shell needs to complete `oialr-hpo`, its options and their values."""

import argparse
from collections.abc import Iterable, Iterator, Sequence

import shtab
from pydantic import BaseModel

from oialr_hpo import experiment as experiments
from oialr_hpo import methods, tasks
from oialr_hpo.commands import COMMANDS, ExperimentName, InRoom, Parser, command, door, path

SHELLS = ("bash", "zsh")
DIRECTORIES = ("DIR", "RUN")
"""What options call a path that is to be one."""
SETTING = "_oialr_hpo_setting"
"""A function of the shell that offers the keys of settings."""
WITHOUT_SPACE = """
_shtab_oialr_hpo() {
  _shtab_words_of_oialr_hpo "$@"
  if [[ ${COMPREPLY-} == *= ]]; then compopt -o nospace 2>/dev/null; fi
}
complete -o bashdefault -F _shtab_oialr_hpo oialr-hpo"""


@command
def main(arguments: Sequence[str] | None = None) -> None:
    print(script(parser().parse_args(arguments).shell))


def parser() -> Parser:
    parser = Parser("completion", __doc__.split(": ")[1], "bash")
    parser.add_argument(
        "shell",
        choices=SHELLS,
        help='bash: put eval "$(oialr-hpo completion bash)" into ~/.bashrc; '
        'zsh: eval "$(oialr-hpo completion zsh)" into ~/.zshrc, below compinit',
    )
    return parser


def script(shell: str) -> str:
    """A script of the shell that completes every command as its parser reads it."""
    together = argparse.ArgumentParser("oialr-hpo")
    together.add_argument("--version", action="store_true", help="of the package")
    commands = together.add_subparsers()
    functions = [_function_of_settings(shell)]
    for name, about in COMMANDS.items():
        one = commands.add_parser(name, help=about, parents=[door(name).parser()], add_help=False)
        functions += _offer_values(shell, name, one)
    preamble = "\n".join(functions)
    if shell == "zsh":
        return shtab.complete(together, shell, preamble=preamble)
    return shtab.complete(together, shell, root_prefix="words_of_oialr_hpo", preamble=preamble) + WITHOUT_SPACE


def _offer_values(shell: str, name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    """Tell of the arguments of a command, or of those below it, what their values are; with functions for that."""
    for argument in parser._actions:
        taken, values = argument.type, vars(argument)
        if isinstance(argument.choices, dict):
            for below, one in argument.choices.items():
                yield from _offer_values(shell, f"{name}_{below}", one)
        elif argument.dest == "set":
            values["complete"] = {shell: SETTING}
        elif isinstance(taken, InRoom):
            values["choices"] = taken.known
        elif isinstance(taken, ExperimentName):
            function = f"_oialr_hpo_{name}_file"
            yield _function(shell, function, [*taken.others, *experiments.known()])
            values["complete"] = {shell: function}
        elif taken is path:
            values["complete"] = shtab.DIRECTORY if argument.metavar in DIRECTORIES else shtab.FILE


def settings() -> list[str]:
    """The keys of all settings, of all built-in methods and tasks."""
    models: list[tuple[str, type[BaseModel]]] = [("", experiments.Experiment)]
    models += [(f"{name}.", methods.load_method(name).Settings) for name in methods.METHODS.names()]
    models += [("", tasks.load_settings(task)) for task in tasks.BUILT_IN]
    return list(dict.fromkeys(key for prefix, model in models for key in _keys(model, prefix)))


def _keys(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            yield from _keys(section, f"{prefix}{name}.")
        else:
            yield prefix + name


def _function(shell: str, name: str, words: Iterable[str]) -> str:
    """A function of the shell that offers these words, and experiment files."""
    offer = {
        "bash": 'compgen -W \'{}\' -- "$1"; compgen -f -X \'!*.yaml\' -- "$1"; compgen -d -- "$1"',
        "zsh": "compadd -- {}; _files -g '*.yaml'",
    }
    return f"{name}() {{ {offer[shell].format(' '.join(words))}; }}"


def _function_of_settings(shell: str) -> str:
    """A function of the shell that offers the keys of settings, whose values follow at once."""
    offer = {"bash": "compgen -W '{}' -- \"$1\"", "zsh": "compadd -S '' -- {}"}
    return f"{SETTING}() {{ {offer[shell].format(' '.join(f'{key}=' for key in settings()))}; }}"


if __name__ == "__main__":
    main()
