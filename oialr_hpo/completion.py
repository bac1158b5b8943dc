"""`python -m oialr_hpo.completion SHELL`: what a shell needs to complete `oialr-hpo`, its options and their values."""

import argparse
from collections.abc import Iterable, Sequence

import shtab

from oialr_hpo import experiment as experiments
from oialr_hpo.commands import COMMANDS, ExperimentName, InRoom, Parser, command, door, path

SHELLS = ("bash", "zsh")
DIRECTORIES = ("DIR", "RUN")
"""What options call a path that is to be one."""


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
    functions = []
    for name, about in COMMANDS.items():
        one = commands.add_parser(name, help=about, parents=[door(name).parser()], add_help=False)
        for argument in one._actions:
            taken, values = argument.type, vars(argument)
            if isinstance(taken, InRoom):
                values["choices"] = taken.known
            elif isinstance(taken, ExperimentName):
                function = f"_oialr_hpo_{name}_file"
                functions.append(_function(shell, function, [*taken.others, *experiments.known()]))
                values["complete"] = {shell: function}
            elif taken is path:
                values["complete"] = shtab.DIRECTORY if argument.metavar in DIRECTORIES else shtab.FILE
    return shtab.complete(together, shell, preamble="\n".join(functions))


def _function(shell: str, name: str, words: Iterable[str]) -> str:
    """A function of the shell that offers these words, and experiment files."""
    offer = {
        "bash": 'compgen -W \'{}\' -- "$1"; compgen -f -X \'!*.yaml\' -- "$1"; compgen -d -- "$1"',
        "zsh": "compadd -- {}; _files -g '*.yaml'",
    }
    return f"{name}() {{ {offer[shell].format(' '.join(words))}; }}"


if __name__ == "__main__":
    main()
