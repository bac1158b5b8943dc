"""`python -m oialr_hpo.list`: the experiments that ship with the package."""

import re
from collections.abc import Sequence
from pathlib import Path

from oialr_hpo import experiment as experiments
from oialr_hpo.commands import Parser, command
from oialr_hpo.runs.printing import table

FIRST_SENTENCE = re.compile(r"# (.*?)(?= \(|[.:] |[.:]?$)", re.MULTILINE)


@command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = Parser("list", __doc__.split(": ")[1])
    parser.epilog = "digits, ecg: ship with other packages. Others: --data-dir DIR, or downloaded where they can be."
    parser.parse_args(arguments)
    directory = experiments.shipped()
    rows = [_row(file, directory) for file in sorted(directory.rglob("*.yaml"))]
    print(f"{table(['name', 'data', 'network', 'epochs', 'about'], rows)}\n\n{parser.epilog}")


def _row(file: Path, directory: Path) -> list[str | int]:
    content = experiments.read(file)
    about = FIRST_SENTENCE.match(file.read_text(encoding="utf-8"))
    return [
        file.relative_to(directory).with_suffix("").as_posix(),
        content["data"]["dataset"],
        content["model"].get("name", "Autoformer"),
        content["training"]["epochs"],
        about[1] if about else "",
    ]


if __name__ == "__main__":
    main()
