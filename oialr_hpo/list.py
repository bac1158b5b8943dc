"""`python -m oialr_hpo.list`: the experiments that ship with the package."""

import re
from collections.abc import Sequence
from pathlib import Path

from oialr_hpo import experiment as experiments
from oialr_hpo.commands import Parser, command
from oialr_hpo.runs.printing import table

NEEDS = "digits, ecg: ship with other packages. Others: --data-dir DIR, or downloaded where they can be."
FIRST_SENTENCE = re.compile(r"# (.*?)(?= \(|[.:] |[.:]?$)", re.MULTILINE)


@command
def main(arguments: Sequence[str] | None = None) -> None:
    parser().parse_args(arguments)
    rows = [_row(name, file) for name, file in experiments.known().items()]
    print(f"{table(['name', 'data', 'network', 'epochs', 'about'], rows)}\n\n{NEEDS}")


def parser() -> Parser:
    parser = Parser("list", __doc__.split(": ")[1], "")
    parser.epilog = NEEDS
    return parser


def _row(name: str, file: Path) -> list[str | int]:
    content = experiments.read(file)
    about = FIRST_SENTENCE.match(file.read_text(encoding="utf-8"))
    return [
        name,
        content["data"]["dataset"],
        content["model"].get("name", "Autoformer"),
        content["training"]["epochs"],
        about[1] if about else "",
    ]


if __name__ == "__main__":
    main()
