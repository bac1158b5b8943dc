"""`oialr-hpo COMMAND`, or `python -m oialr_hpo COMMAND`: every command by its name."""

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from oialr_hpo.commands import COMMANDS, command, door, subcommand

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
        door(name).main(options)


if __name__ == "__main__":
    main()
