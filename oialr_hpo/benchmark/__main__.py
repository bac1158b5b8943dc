"""`python -m oialr_hpo.benchmark NAME ...`: runs the module of that name, see `NAMES`."""

import argparse
import ast
import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from oialr_hpo.commands import Parser, command, subcommand

NAMES = {
    "layers": "one layer, forward and backward, over ranks: dense, rebuilt W, hybrid, chain, ours",
    "step": "a whole training step of the mini ViT, VGG16 or Autoformer over ranks: dense, rebuilt W, ours",
    "epoch": "an epoch of an experiment's training, dense and low-rank, data and augmentation included",
    "run": "a whole run of the mini ViT against dense training, wall time",
    "moments": "what becomes of Adam's second moments when the basis of a weight changes",
    "search": "how fast the samplers find good settings; under mpirun, also how busy the ranks are",
    "startup": "how long the ranks of a search take to be ready, and what they hold, against plain Propulate",
    "stopping": "what early stopping would have saved in finished searches, and cost",
    "winners": "whether what finished searches export is worth what they say, with fresh seeds",
    "utilization": "validation passes that the search for utilized ranks takes, plain and with parts of them",
    "record": "trainings of an experiment, whole curves of many settings, for economy",
    "economy": "how good what a search exports is against what it spends, over recorded trainings; other tools' too",
    "importance": "which settings of recorded trainings decided their scores, and how sure that is",
}

TOLD = {"action", "nargs", "metavar", "help"}
"""What of an option can be read off the text of its declaration."""
EXAMPLE = "layers --cases 768x768 --ranks 96 --rounds 3"


@command
def main(arguments: Sequence[str] | None = None) -> None:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own chatter
    usage = "python -m oialr_hpo.benchmark"
    chosen = subcommand(arguments, "benchmark", f"{usage} NAME [options]", NAMES, f"\nexample: {usage} {EXAMPLE}")
    if chosen:
        name, options = chosen
        import_module(f"oialr_hpo.benchmark.{name}").main(options)


def parser() -> Parser:
    """Of the names and of the options behind each, as far as these can be told without importing its module."""
    parser = Parser("benchmark", __doc__.split(": ")[1], EXAMPLE)
    choices = "; ".join(f"{name}: {about}" for name, about in NAMES.items())
    names = parser.add_subparsers(dest="name", metavar="NAME", help=choices, parser_class=argparse.ArgumentParser)
    for name, about in NAMES.items():
        one = Parser(f"benchmark {name}", about, "")
        _declare(one, name)
        names.add_parser(name, help=about, parents=[one], add_help=False)
    return parser


def _declare(parser: Parser, name: str) -> None:
    """Add a module's options as its text declares them: to import it would load torch, in most cases."""
    tree = ast.parse(Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8"))
    for call in ast.walk(tree):
        match call:
            case ast.Call(ast.Attribute(attr="add_argument"), [ast.Constant(str(option))]) if option.startswith("-"):
                plain = {each.arg: each.value.value for each in call.keywords if isinstance(each.value, ast.Constant)}
                taken: dict[str, Any] = {str(key): plain[key] for key in TOLD & plain.keys()}
                parser.add_argument(option, **taken)
            case ast.Call(ast.Attribute(attr="add_changes" | "add_data_directories" as shared)):
                getattr(parser, shared)()
            case ast.Call(ast.Name("add_machine_options")):
                _declare(parser, "measure")


if __name__ == "__main__":
    main()
