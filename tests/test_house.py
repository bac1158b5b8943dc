"""The shape of the package, read by `ast` alone: its rooms, the arrows between them, and what a light process loads."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import oialr_hpo

PACKAGE = Path(oialr_hpo.__file__).parent
FOUNDATIONS = {"mistake", "files", "section", "extension"}
DOORS = {
    *(
        "check",
        "completion",
        "export",
        "figures",
        "init",
        "list",
        "objective",
        "reproduce",
        "search",
        "status",
        "train",
    ),
    *("__main__", "benchmark", "report.__main__", "utilization.__main__"),
}
LAYERS = [
    FOUNDATIONS,
    {"oialr"},
    {"tasks", "methods", "optimization", "trainers"},
    {"experiment"},
    {"runs"},
    {"training"},
    {"utilization"},
    {"samplers"},
    {"loggers"},
    {"engines"},
]
LAYERS += [{"report"}, {"commands"}, DOORS]
"""Low to high: a room may import from the rooms below it."""
LONGEST = 350
"""Lines of a file, unless its docstring says why."""


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package by its dotted name below it; a package by its own."""
    found = {}
    for file in PACKAGE.rglob("*.py"):
        *rooms, name = file.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(rooms if name == "__init__" else [*rooms, name])] = ast.parse(file.read_text())
    return found


def imported(tree: ast.AST) -> Iterator[tuple[str, str | None]]:
    """Each import of a module, wherever it stands, as (module, name)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from ((node.module or "", alias.name) for alias in node.names)


@cache
def arrows() -> dict[str, set[str]]:
    """Which modules of the package each module imports."""
    known, found = modules(), {}
    for module, tree in known.items():
        inside = [(f"{path}.", name) for path, name in imported(tree) if f"{path}.".startswith("oialr_hpo.")]
        paths = [(path.removeprefix("oialr_hpo.").rstrip("."), name) for path, name in inside]
        found[module] = {
            deeper if (deeper := f"{path}.{name}".lstrip(".")) in known else path for path, name in paths
        } - {module}
    return found


def room(module: str) -> str:
    return module.split(".")[0]


def layer(module: str) -> int:
    return next(height for height, rooms in reversed([*enumerate(LAYERS)]) if {module, room(module)} & rooms)


def reached(module: str) -> set[str]:
    """Everything that a module imports, directly or not."""
    found: set[str] = set()
    left = [module]
    while left:
        new = arrows()[left.pop()] - found
        found |= new
        left += new
    return found


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert not {module for module in modules() if module and module in reached(module)}


def test_arrows_point_down() -> None:
    """An import, also one inside a function or for types alone, is of the same room or of a lower one."""
    between = {(one, other) for one in modules() if one for other in arrows()[one] if other and other != one}
    assert not {(one, other) for one, other in between if layer(one) < layer(other) or apart(one, other)}


def apart(one: str, other: str) -> bool:
    """Whether two modules lie in rooms of one layer, which are not to know each other."""
    return layer(one) == layer(other) and room(one) != room(other) and not {one, other} <= FOUNDATIONS


def test_only_doors_and_foundations_lie_flat() -> None:
    flat = {file.stem for file in PACKAGE.glob("*.py")} - {"__init__"}
    assert flat <= DOORS | FOUNDATIONS | {"commands"}
    rooms = {file.parent.name for file in PACKAGE.glob("*/__init__.py")}
    assert rooms <= {room(module) for module in set().union(*LAYERS)}


def test_a_long_file_gives_its_reason() -> None:
    """The docstring of a file above `LONGEST` lines says `In one file because ...`."""
    long = {module for module, tree in modules().items() if tree.body and (tree.body[-1].end_lineno or 0) > LONGEST}
    assert not {module for module in long if "in one file" not in (ast.get_docstring(modules()[module]) or "").lower()}


def test_mpi_is_imported_by_two_files() -> None:
    """And by the benchmark that times it."""
    users = {module for module, tree in modules().items() if any(room(path) == "mpi4py" for path, _ in imported(tree))}
    assert {module for module in users if room(module) != "benchmark"} == {
        *("engines.mpi", "engines.replicas"),
    }


def test_what_only_proposes_loads_neither_torch_nor_mpi() -> None:
    """Nor does a look at the package, a search's desk and its samplers, or a run directory."""
    code = (
        "import sys, oialr_hpo\n"
        "assert not {'pydantic', 'numpy'} & {*sys.modules}, 'import oialr_hpo is not light'\n"
        "import oialr_hpo.search, oialr_hpo.status, oialr_hpo.export, oialr_hpo.train, oialr_hpo.engines.child\n"
        "print(*{'torch', 'timm', 'mpi4py', 'matplotlib', 'plotly'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def fronts() -> list[str]:
    """Modules that list what others may import."""
    return [module for module, tree in modules().items() if "__all__" in assigned(tree) and room(module) not in DOORS]


def assigned(tree: ast.Module) -> dict[str, str | None]:
    """The names that a module assigns, with the docstring below each."""
    found: dict[str, str | None] = {}
    for node, below in pairwise([*tree.body, ast.Pass()]):
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            text = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else None
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id: text for target in targets if isinstance(target, ast.Name)}
    return found


@pytest.mark.parametrize("front", fronts())
def test_what_a_front_lists_is_there_and_says_what_it_is(front: str) -> None:
    """A class or a function has a docstring of its own, any other name one below it, where it is assigned."""
    module = import_module(f"oialr_hpo.{front}".rstrip("."))
    assert module.__all__ == sorted(module.__all__, key=_as_ruff_sorts) and len({*module.__all__}) == len(
        module.__all__
    )
    mute = []
    for name in module.__all__:
        thing = getattr(module, name)
        if isinstance(thing, (type, FunctionType, ModuleType)):
            said = vars(thing).get("__doc__") if isinstance(thing, type) else thing.__doc__
        else:
            said = next((text for tree in modules().values() if (text := assigned(tree).get(name))), None)
        mute += [] if said else [name]
    assert not mute


def _as_ruff_sorts(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2, name)
