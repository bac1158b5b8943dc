"""Every command and program that the pages show is run, reduced, from a fresh directory, or says in `RULES` why not.

A page is one session: its commands run in one directory, in order, beside the files that it shows.
"""

import importlib
import importlib.util
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from oialr_hpo import commands as shared
from oialr_hpo import experiment as experiments
from oialr_hpo import search
from oialr_hpo.reproduce.published import published
from tests.docs.shown import LANGUAGES, PAGES, ROOT, Command, blocks, commands, commands_in_prose, without_blocks
from tests.engines.test_propulate import MPIRUN

CIFAR_10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]

Reduced = dict[str, str | int]
DIGITS: Reduced = {
    "training.epochs": 1,
    "model.arguments.depth": 1,
    "data.train_images": 160,
    "oialr.delay": 2,
    "oialr.frequency": 1,
}
WAVES: Reduced = {"training.epochs": 1, "data.train_windows": 64, "data.validation_windows": 16}
VGG: Reduced = {
    "model.arguments.width": 0.0625,
    "training.epochs": 1,
    "training.batch_size": 50,
}


MADE_UP = "tests.objectives:every_metric"
REAL: Reduced = {"objective": "oialr_hpo.objective:evaluate"}
"""A training, of what a search with made-up trials has exported."""


@dataclass(frozen=True)
class Run:
    """Run for real, with further options."""

    options: str = ""
    settings: tuple[tuple[str, Any], ...] = ()
    ranks: int = 1
    """Under mpirun with so many; 1: without it."""
    simulated: bool = False
    """With made-up trials in place of trainings."""


@dataclass(frozen=True)
class Parse:
    """The options are read and the experiment is loaded; the reason why no more."""

    why: str


@dataclass(frozen=True)
class Exists:
    """Its scripts are there; the reason why they are not run."""

    why: str


def run(options: str = "", settings: Reduced | None = None, **how: Any) -> Run:
    return Run(options, tuple((settings or {}).items()), **how)


HOURS, GPUS, ELSEWHERE = "it takes minutes to hours", "it wants GPUs", "other tests run it"
OTHER_MACHINE = "it changes the machine, or needs another one"

RULES: list[tuple[str, str, Run | Parse | Exists]] = [
    # page, command (regular expressions, the first that fit count), what is done
    (r"^examples/", r"", Exists("the examples' tests run it")),
    (r"README", r"search vit_digits --jobs 2$", run("--trials 2 --jobs 1", DIGITS)),
    (r"index", r"runs/vit_digits$|search vit_digits", Parse("README runs it")),
    (r"README", r"train runs/vit_digits/best", run("--seeds 0")),
    (r"README", r"(status|report|export) runs/vit_digits$", run()),
    (r"README", r"^oialr-hpo", run()),
    (r"README", r"mpirun -n 4 .*search vit_digits --out runs/islands", Parse("Searching runs it")),
    (r"README|data", r"(search|check) flowers.yaml .*--jobs 2", Parse("the rehearsals' tests train on folders")),
    (r"README", r"search flowers.yaml .*convnext_atto", Parse("as the search before it, with another network")),
    (r"searching", r"mpirun -n 4 .*search vit_digits", run("--trials 3", ranks=2, simulated=True)),
    (r"searching", r"mpirun -n 2 .*--resume", Parse(ELSEWHERE)),
    (r"searching", r"search vit_digits --jobs 2$", Parse("README runs it")),
    (r"searching|measured", r"(search|train|check) vit_cifar", Parse(GPUS)),
    (r"measured", r"train vit_digits --seeds", Parse(HOURS)),
    (r"searching", r"search vit_digits .*when:", run("--trials 3 --jobs 1", simulated=True)),
    (r"searching", r"search vit_digits .*prior:", run("--trials 3 --jobs 1", simulated=True)),
    (r"experiment", r"search vgg_digits .*rigl$", run("--trials 2", simulated=True)),
    (r"experiment", r"search vgg_digits", Parse("as the one for RigL")),
    (r"searching", r"search vit_digits --set score=", run("--trials 3", simulated=True)),
    (r"searching", r"export runs/two_goals --pareto", run()),
    (r"run_directory", r"mpirun -n 4 .*search vit_digits", run("--trials 3", DIGITS, simulated=True)),
    (r"run_directory", r"(status|report|figures|export) runs/quickstart", run()),
    (r"run_directory", r"train (tuned/quickstart-1.yaml|runs/quickstart --trial 2)$", run("", REAL)),
    (r"run_directory", r"train tuned/quickstart-1.yaml .*--seeds 0 1 2", run("--seeds 0", REAL)),
    (r"data", r"check flowers.yaml", run("", {"training.batch_size": 4, "data.workers": 1})),
    (r"data", r"search load.yaml", run("--trials 2 --jobs 1", WAVES, simulated=True)),
    (r"data", r"export runs/load", run()),
    (r"data", r"train runs/load", run("", REAL)),
    (r"library", r"train vit_digits --weights", run("--threads 1", {"training.epochs": 1, "data.train_images": 160})),
    (r"loop", r"train my_loop.yaml|(export|train) runs/my_loop", run()),
    (r"loop", r"search my_loop.yaml", run("--trials 3 --jobs 1")),
    (r"task", r"train tumours.yaml", run("--threads 1", {"training.epochs": 2})),
    (r"task", r"search tumours.yaml", Parse("CONTRIBUTING's test searches with a task of one's own")),
    (r"method", r"train pruned.yaml", run("--threads 1", {"training.epochs": 2, "data.train_images": 160})),
    (r"method", r"search pruned.yaml", run("--trials 3 --jobs 1", {"training.epochs": 2}, simulated=True)),
    (r"method", r"(report|export) runs/pruned", run()),
    (r"method", r"train runs/pruned", run("", REAL)),
    (r"optimization", r"search vit_digits .*signs:", Parse("the optimizers' tests search with their own")),
    (
        r"figures",
        r"(figures|report) runs/tracked|(train|search) vit_digits",
        Parse("the figures' and the reports' tests run it"),
    ),
    (r"figures", r"(train|utilization) vgg_digits", Parse("other tests analyse networks and draw their layers")),
    (r"figures", r"figures runs/family", Parse("the sweep's tests run it")),
    (r"utilized_rank", r"train vgg16_cifar", run("--threads 1", VGG)),
    (r"utilized_rank", r"utilization vgg16_cifar", run("--images 50 --finetune 1 --tolerance 20 --threads 1", VGG)),
    (r"cluster", r"check vit_digits", Parse(ELSEWHERE)),
    (r"measured", r"reproduce vit_digits", run("--methods dense --seeds 0 --jobs 1", DIGITS | {"trials": 2})),
    (r"tuning", r"benchmark importance", Parse("the benchmark's test runs it over made-up records")),
    (r"tuning|measured", r"reproduce vit_cifar_narrow", Parse(HOURS)),
    (r"measured|figures|tuning", r"train ((tuned/)?vit_cifar_narrow|autoformer_ettm2_96)", Parse(HOURS)),
    (r"figures", r"utilization vgg16_cifar", Parse(HOURS)),
    (r"tuning|measured|figures", r"(status|report|figures) docs/results", Parse("a clone has them")),
    (r"measured", r"reproduce table", Parse(GPUS)),
    (
        r"measured",
        r"reproduce (vgg_digits|vgg16_cifar) .*--methods dense",
        Parse("reduced, the comparisons' tests run several methods"),
    ),
    (r"measured", r"search vit_digits|train vgg16_cifar|utilization vgg16_cifar|benchmark", Parse(HOURS)),
    (r"README|cluster", r"^(cp|sbatch|bash|apptainer)\b", Exists(OTHER_MACHINE)),
    (r"measured", r"train runs/", Exists("the run is that of the search before")),
    (r"measured", r"^git show ", Exists("it needs an earlier commit")),
    (r"design", r"^bash launch/", Exists("they run the tests, or want GPUs")),
    (r"README|searching", r"^pip install ", Exists(OTHER_MACHINE)),
    (r"searching", r"search vit_digits .*loggers=", run("--trials 2 --jobs 1", simulated=True)),
    (r"searching", r"search vit_digits .*keep_weights=", run("--trials 2 --jobs 1", simulated=True)),
    (r"searching", r"export runs/kept", run()),
    (r"searching", r"^tensorboard ", Exists("it shows a page until it is stopped")),
    (r"cluster", r"^apt-get install ", Exists(OTHER_MACHINE)),
]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def rule(page: Path, command: Command) -> tuple[str, str, Run | Parse | Exists]:
    for found in RULES:
        if re.search(found[0], name(page)) and re.search(found[1], str(command)):
            return found
    pytest.fail(f"{name(page)} shows a command that RULES of {Path(__file__).name} does not know: {command}")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_of_a_page(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    make_data(tmp_path / "DIR")
    for block in blocks(page):
        if block.file:
            Path(block.file).write_text(block.text)
        elif block.language == "bash":
            for command in commands(block.text):
                follow(rule(page, command)[2], command, monkeypatch)
        elif block.language == "console":
            with monkeypatch.context() as patched:
                (fresh := tmp_path / "fresh").mkdir(exist_ok=True)
                patched.chdir(fresh)
                check_refusal(block.text, capfd)
            assert not list(fresh.iterdir())
        elif block.language == "python":
            check_program(page, block.text, monkeypatch)
        elif block.language == "yaml":
            yaml.safe_load(block.text)
    for command in commands_in_prose(page):
        parse(command, monkeypatch)


def test_every_rule_is_needed() -> None:
    shown = [(page, each) for page in PAGES for b in blocks(page) if b.language == "bash" for each in commands(b.text)]
    used = [rule(page, command) for page, command in shown]
    assert [each for each in RULES if each not in used] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_code_is_fenced_and_says_its_language(page: Path) -> None:
    assert {block.language for block in blocks(page)} <= set(LANGUAGES)
    assert not re.findall(r"\n\n(?: {4}|\t)\S.*", without_blocks(page)), "indented code: fence it"
    texts = "\n".join(block.text for block in blocks(page) if block.language == "text")
    assert not re.search(r"^(python|mpirun) ", texts, re.MULTILINE), "a command in a text block: make it bash"


def follow(what: Run | Parse | Exists, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    if isinstance(what, Run):
        carry_out(command, what, monkeypatch)
    elif isinstance(what, Parse):
        parse(command, monkeypatch)
    else:
        scripts = [word for word in command.words[1:] if re.fullmatch(r"(launch|tests|examples)/\S+", word)]
        assert all((ROOT / script).exists() or script == "launch/env.sh" for script in scripts), scripts


def carry_out(command: Command, what: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a command in this process, or under mpirun.

    Raises:
        AssertionError: it ends with another exit status than 0.
    """
    module, arguments = module_of(command)
    arguments = [*arguments, *what.options.split()]
    for key, value in what.settings:
        arguments += ["--set", f"{key}={value}"]
    if what.ranks > 1:
        if not MPIRUN.exists():
            pytest.skip("no mpirun")
        arguments += ["--set", f"objective={MADE_UP}"] if what.simulated else []
        line = [str(MPIRUN), "-n", str(what.ranks), sys.executable, "-m", f"oialr_hpo.{module}", *arguments]
        done = subprocess.run(line, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return
    with monkeypatch.context() as patched:
        if what.simulated:
            patched.setitem(search.run.__kwdefaults__, "objective", MADE_UP)
        try:
            main(module)(arguments)
        except SystemExit as ended:
            assert not ended.code, f"{command} ended with {ended.code}"


def module_of(command: Command) -> tuple[str, list[str]]:
    """The module of the package that a command starts, and its arguments."""
    words = list(command.words)
    if words[0] == "mpirun":
        assert words[1] == "-n" and words[2].isdigit()
        words = words[3:]
    if words[0] == "oialr-hpo":
        return "__main__", words[1:]
    assert words[:2] == ["python", "-m"] and words[2].startswith("oialr_hpo."), command
    return words[2].removeprefix("oialr_hpo."), words[3:]


def main(module: str) -> Callable[[list[str]], None]:
    front = importlib.util.find_spec(f"oialr_hpo.{module}")
    assert front, module
    inside = ".__main__" if front.submodule_search_locations else ""
    found: Callable[[list[str]], None] = importlib.import_module(f"oialr_hpo.{module}{inside}").main
    return found


class Read(Exception):
    """The options of a command, instead of what it does."""


def parse(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a command read its options, and load the experiment that they name."""
    read = shared.Parser.parse_args

    def stop(parser: Any, arguments: Any = None, namespace: Any = None) -> None:
        raise Read(read(parser, arguments, namespace))

    module, arguments = module_of(command)
    with monkeypatch.context() as patched, pytest.raises(Read) as stopped:
        for name in ("parse_args", "parse_intermixed_args"):
            patched.setattr(shared.Parser, name, stop)
        main(module)(arguments)
    (options,) = stopped.value.args
    for option in ("name", "experiment", "file"):
        if (named := getattr(options, option, None)) not in (None, "NAME", "FILE"):
            for each in published(named).experiments if module == "reproduce" else [named]:
                experiments.load(each, getattr(options, "set", []))


def check_refusal(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A command after `$ `, which prints what stands below it and ends with exit status 2."""
    line, *expected = text.splitlines()
    (command,) = commands(line.removeprefix("$ "))
    module, arguments = module_of(command)
    capfd.readouterr()
    with pytest.raises(SystemExit, match="2"):
        main(module)(arguments)
    assert capfd.readouterr().err.splitlines() == expected


def check_program(page: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a program of a page with what it takes for granted."""
    if page.name == "README.md":  # of the library, where it is run
        assert text in (ROOT / "docs" / "library.md").read_text()
        return
    if other := re.search(r"from oialr_hpo\.trainers\.(\w+) import OIALRCallback", text):
        compile(text, name(page), "exec")  # tests/integrations runs these callbacks with the packages that they are for
        assert (ROOT / "oialr_hpo" / "trainers" / f"{other[1]}.py").is_file()
        return
    given: dict[str, Any] = {}
    if page.name in ("library.md", "loop.md"):
        given["loader"] = [(torch.rand(1, 3, 224, 224), torch.tensor([3]))]
        given["model"] = model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Linear(8, 3))
        given["optimizer"] = torch.optim.AdamW(model.parameters())
    if page.name == "utilized_rank.md":
        batches = [(torch.rand(16, 6), torch.randint(3, (16,)))]
        given = {"model": torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))}
        given |= {"train_loader": batches, "validation_loader": batches}
    if page.name == "searching.md":
        search_settings = {"search": {"oialr.cutoff": {"float": [0.01, 0.5]}}, "trials": 2}
        whole = yaml.safe_load((ROOT / "search_spaces" / "vit_digits.yaml").read_text())
        Path("my_experiment.yaml").write_text(yaml.safe_dump(whole | search_settings | {"start_from": []}))
    with monkeypatch.context() as patched:
        patched.setitem(search.run.__kwdefaults__, "objective", MADE_UP)
        exec(compile(text, name(page), "exec"), given)
    if page.name == "data.md":
        assert given["values"].shape == (24, 2) and len(given["times"]) == 24


def make_data(directory: Path) -> None:
    """Flowers, images in the form of CIFAR-10, and a series."""
    random = np.random.default_rng(0)
    flowers = [f"flowers/{part}/{kind}" for part in ("train", "val") for kind in ("daisy", "rose", "tulip")]
    for folder in (*flowers, *(f"{part}/{kind}" for part in ("train", "test") for kind in CIFAR_10)):
        (directory / folder).mkdir(parents=True)
        for number in range(10):
            image = random.integers(0, 255, (32, 32, 3), np.uint8)
            Image.fromarray(image).save(directory / folder / f"{number}.png")
    hours = [(datetime(2024, 1, 1) + timedelta(hours=h), math.sin(h / 4), math.cos(h / 4)) for h in range(600)]
    rows = [f"{time},{load:.4f},{heat:.4f}" for time, load, heat in hours]
    (directory / "load.csv").write_text("\n".join(["time,load,heat", *rows]))
