"""`python -m oialr_hpo.init NAME`: begin an experiment of your own with two files that run as they are."""

from collections.abc import Sequence
from pathlib import Path

from oialr_hpo.commands import Parser, command
from oialr_hpo.files import write_whole
from oialr_hpo.mistake import Mistake

__all__ = ["main"]


@command
def main(arguments: Sequence[str] | None = None) -> None:
    name = parser().parse_args(arguments).name
    if not name.isidentifier():
        raise Mistake(f"{name!r} cannot be imported as a module; choose letters, digits and _, such as my_task")
    here = Path(__file__).parent
    content = {
        Path(f"{name}.yaml"): (here / "experiment.yaml").read_text(encoding="utf-8").replace("NAME", name),
        Path(f"{name}.py"): (here / "task.py").read_text(encoding="utf-8"),
    }
    for file in content:
        if file.exists():
            raise Mistake(f"{file} exists; choose another NAME")
    for file, text in content.items():
        write_whole(file, text)
    print(f"{name}.py      what is trained: change the data, the network, the loss and the metrics")
    print(f"{name}.yaml    how, and what a search may change; it runs as it is:\n")
    print(f"python -m oialr_hpo.check {name}.yaml")
    print(f"python -m oialr_hpo.search {name}.yaml --jobs 2")


def parser() -> Parser:
    parser = Parser("init", __doc__.split(": ")[1], "my_task")
    parser.add_argument("name", metavar="NAME", help="writes NAME.yaml, an experiment, and NAME.py, what it trains")
    return parser
