"""The worked examples of CONTRIBUTING.md run as they are shown: each is one file, and the command that uses it."""

import importlib
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from oialr_hpo import search

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(python|yaml|bash)\n(.*?)^```$", re.M | re.S)
SECTION = re.compile(r"^### An? (.*?)\n(.*?)(?=^##|\Z)", re.M | re.S)
EXAMPLES = dict(SECTION.findall((ROOT / "CONTRIBUTING.md").read_text()))
SHOWN = {
    "sampler": r"#2 score ",
    "task": r" mse (.*\n)*.*best 1 ",
    "method": r"epoch 3/3.*mse",
    "engine": r"3 complete",
    "logger": r"trial-0000\d: [\d.e-]+ with .*oialr.cutoff",
    "metric": r"worst_error +[01]\.?\d*",
    "optimizer": r"epoch 3/3.*mse",
    "schedule": r"epoch 3/3  lr 0\.0001 ",
}
UNTRAINED = ("sampler", "engine", "logger")
"""What is no part of a training; made-up trials will do."""
LONGEST = 22
"""Lines of an example, without imports and empty ones."""


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory that a contributor works in, with the files that earlier sections showed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    for text in EXAMPLES.values():
        written(text, tmp_path)
    yield tmp_path
    for name in [name for name, module in sys.modules.items() if getattr(module, "__file__", None)]:
        if str(sys.modules[name].__file__).startswith(str(tmp_path)):
            del sys.modules[name]  # other pages have files of these names


def written(text: str, directory: Path) -> list[Path]:
    """The files of a section, each called as its first line says."""
    files = []
    for kind, content in BLOCK.findall(text):
        if kind != "bash":
            name = content.splitlines()[0].removeprefix("# ")
            (directory / name).write_text(content)
            files.append(directory / name)
    return files


@pytest.mark.parametrize("kind", SHOWN)
def test_an_extension_is_one_file_that_its_command_runs(
    kind: str, beside: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind in UNTRAINED:
        monkeypatch.setitem(search.run.__kwdefaults__, "objective", "tests.objectives:every_metric")
    (program,) = [file for file in written(EXAMPLES[kind], beside) if file.suffix == ".py"]
    lines = program.read_text().splitlines()
    lines = [line for line in lines if line and not line.startswith(("#", "import", "from"))]
    assert len(lines) <= LONGEST
    (command,) = [content for name, content in BLOCK.findall(EXAMPLES[kind]) if name == "bash"]
    _, _, module, *arguments = shlex.split(command)
    importlib.import_module(module).main(arguments)
    shown = capfd.readouterr()
    news = "".join(file.read_text() for file in beside.rglob("news.txt"))  # of the logger
    assert re.search(SHOWN[kind], shown.out + news), shown


def test_every_kind_of_extension_has_an_example() -> None:
    assert EXAMPLES.keys() == SHOWN.keys()
