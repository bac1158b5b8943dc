"""`oialr-hpo COMMAND`, or `python -m oialr_hpo COMMAND`: every command by its name."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version

from oialr_hpo.commands import command, subcommand

COMMANDS = {
    "list": "the experiments that ship with the package",
    "init": "begin an experiment of your own: a commented file, and a task to change",
    "check": "whether a search could run here, before it is started",
    "search": "search the settings of an experiment",
    "status": "how a running or finished search stands",
    "report": "a search as a page to read, with charts and tables",
    "export": "the best settings of a search as files that train again",
    "train": "train with given settings, once per seed",
    "figures": "pictures of a trial's weights, as in the paper's Figure 1, and of its ranks",
    "reproduce": "tables of the paper, or methods compared on any experiment",
    "probe": "a short dense training that narrows a search",
    "utilization": "utilized rank: how much of each layer's space the data use",
    "benchmark": "how fast things are, and how good the samplers",
}
ROOMS = ("report", "utilization", "benchmark")
"""Commands that are not the front of their room."""
FURTHER = """\
  --version   of the package

  oialr-hpo search vit_digits        two minutes, real images, nothing to download
  oialr-hpo status runs/vit_digits   also while it runs
  oialr-hpo COMMAND --help           what a command can do"""


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command with its own options."""
    given = sys.argv[1:] if arguments is None else [*arguments]
    if given[:1] == ["--version"]:
        print(f"oialr_hpo {version('oialr_hpo')}")
    elif chosen := subcommand(given, "command", "oialr-hpo COMMAND [options]\n", COMMANDS, FURTHER):
        name, options = chosen
        if (here := os.getcwd()) not in sys.path:  # as `python -m` does it, for tasks of one's own
            sys.path.insert(0, here)
        import_module(f"oialr_hpo.{name}{'.__main__' if name in ROOMS else ''}").main(options)


if __name__ == "__main__":
    main()
