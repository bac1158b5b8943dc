"""What all commands share: options, and one line with exit status 2 for a mistake."""

import importlib
import os
import shlex
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oialr_hpo import __main__ as together
from oialr_hpo import commands
from oialr_hpo.benchmark import __main__ as benchmark
from oialr_hpo.experiment import shipped
from oialr_hpo.mistake import Mistake, one_line

COMMANDS = ["search", "status", "export", "train", "check", "reproduce", "figures", "list", "init"]
COMMANDS += ["completion"]
MODULES = [*COMMANDS, "report.__main__", "utilization.__main__", "benchmark.__main__"]
ROOT = Path(__file__).parents[1]


def line_of(module: str, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The line that a command ends with for these options."""
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"oialr_hpo.{module}").main(arguments)
    printed = capsys.readouterr()
    assert ended.value.code == 2 and printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ") and line.isprintable() and len(line) <= 300
    return line


def test_one_command_names_all_others(capsys: pytest.CaptureFixture[str]) -> None:
    together.main([])
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in together.COMMANDS)
    for name in together.COMMANDS:
        with suppress(SystemExit):
            together.main([name, "--help"])
        assert capsys.readouterr().out.startswith(f"usage: python -m oialr_hpo.{name} ")
    assert {module.partition(".")[0] for module in MODULES} == {*together.COMMANDS}


def test_the_help_of_a_search_says_what_a_choice_means_and_shows_an_example() -> None:
    shown = " ".join(importlib.import_module("oialr_hpo.search").parser().format_help().split())
    assert "propulate: islands over MPI ranks" in shown and "example: python -m oialr_hpo.search vit_digits" in shown


@pytest.mark.parametrize("name", together.COMMANDS)
def test_the_help_of_a_command_says_what_a_choice_means_and_shows_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = commands.door(name).parser()
    with suppress(SystemExit):
        together.main([name, "--help"])
    assert f"\nexample: {parser.example}\n" in capsys.readouterr().out
    assert reads(parser, parser.example)
    assert choices_without_meaning(parser) == []


@pytest.mark.parametrize("name", benchmark.NAMES)
def test_the_help_of_a_benchmark_shows_an_example(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[commands.Parser] = []

    def ask(parser: commands.Parser, *_: object) -> None:
        asked.append(parser)
        raise SystemExit

    with monkeypatch.context() as patched, suppress(SystemExit):
        patched.setattr(commands.Parser, "parse_args", ask)
        benchmark.main([name])
    (parser,) = asked
    assert parser.format_help().endswith(f"\nexample: {parser.example}\n")
    assert reads(parser, parser.example)
    assert choices_without_meaning(parser) == []
    (names,) = [action for action in benchmark.parser()._actions if action.choices]
    told = names.choices[name]  # type: ignore[index] # for completion, without importing the benchmark
    options, declared = ([(a.option_strings, a.nargs) for a in p._actions if a.option_strings] for p in (parser, told))
    assert declared == options


def choices_without_meaning(parser: commands.Parser) -> list[str]:
    """The options whose help leaves out a choice."""
    return [a.dest for a in parser._actions if not all(str(each) in (a.help or "") for each in a.choices or ())]


def reads(parser: commands.Parser, example: str) -> bool:
    """Whether a command line is one of this parser's, and has arguments that it takes."""
    start = parser.prog.split()
    words = shlex.split(example)
    return words[: len(start)] == start and bool(parser.parse_args(words[len(start) :]))


def test_the_installed_command_is_the_same() -> None:
    script = Path(sys.executable).with_name("oialr-hpo")
    if not script.exists():
        pytest.skip("the package is not installed beside this Python")
    done = subprocess.run([script, "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"oialr_hpo {version('oialr_hpo')}\n")


def test_a_shipped_experiment_is_listed_with_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    together.main(["list"])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    files = {file.relative_to(shipped()).with_suffix("").as_posix() for file in shipped().rglob("*.yaml")}
    assert files <= {*lines}
    assert "cifar10" in lines["vit_cifar"] and "300" in lines["vit_cifar"] and "Mini ViT" in lines["vit_cifar"]


def test_what_init_writes_is_searched_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    together.main(["init", "my_first_task"])
    printed = capsys.readouterr().out
    assert {file.name for file in tmp_path.iterdir()} == {"my_first_task.yaml", "my_first_task.py"}
    assert "search my_first_task.yaml" in printed
    together.main(["search", "my_first_task.yaml", "--trials", "2", "--set", "training.epochs=1"])
    assert "2 complete of 2 trials" in capsys.readouterr().out
    assert "my_first_task.yaml exists" in line_of("init", ["my_first_task"], capsys)
    assert "cannot be imported" in line_of("init", ["../x"], capsys)


@pytest.mark.parametrize("module", MODULES)
def test_an_unknown_option_is_one_line_of_every_command(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = {"benchmark.__main__": "layers", "completion": "bash"}.get(module, "x")
    assert "--frobnicate" in line_of(module, [name, "--frobnicate"], capsys)


@pytest.mark.parametrize(
    ("module", "arguments", "said"),
    [
        ("search", ["vit_digits", "--trials", "0"], "argument --trials: 0 is not a whole number above zero"),
        ("search", ["vit_digits", "--trials", "9" * 5000], "is not a whole number above zero"),
        ("search", ["vit_digits", "--jobs", "two"], "argument --jobs: two is not a whole number above zero"),
        ("search", ["vit_digits", "--seed", "-1"], "argument --seed: -1 is not a whole number from zero on"),
        ("search", ["vit_digits", "--sampler", "x\ny\x1b[31m" * 500], "argument --sampler: invalid choice"),
        ("search", ["vit_digits", "--out", ""], "argument --out: '' is no path"),
        ("search", ["vit_digits", "--out", "x" * 5000], "File name too long; shorten it"),
        ("search", ["vit_digits", "--out", "a\0b"], "is no path"),
        ("search", ["vit_digits", "--out", "~nobody-of-this-name/x"], "no such user"),
        ("export", ["run", "--top", "-1"], "argument --top: -1 is not a whole number above zero"),
        ("figures", ["run", "--trial", "x"], "argument --trial: x is not a whole number from zero on"),
        ("reproduce", ["table3", "--budget", "nan"], "argument --budget: nan is not a share above 0 and at most 1"),
        ("reproduce", ["table3", "--jobs", "0"], "argument --jobs: 0 is not a whole number above zero"),
        ("train", ["vit_digits", "--threads", "9" * 15], "--threads 999999999999999 is more than 4096"),
        ("train", ["vit_digits", "--threads", "0"], "argument --threads: 0 is not a whole number above zero"),
        ("train", ["vit_digits", "--resume"], "--resume goes on with what --out DIR holds; name it"),
        ("utilization.__main__", ["vit_digits", "--images", "0"], "argument --images: 0 is not a whole number above"),
        ("utilization.__main__", ["vit_digits", "--tolerance", "-1"], "argument --tolerance: -1 is not a number from"),
        ("search", ["x", "--set", "a=1", "b=2"], "unrecognized arguments: b=2; repeat --set before each KEY=VALUE"),
        ("__main__", ["serch"], "no command 'serch'; did you mean 'search'?"),
        ("status", [], "the following arguments are required: RUN"),
        ("benchmark.__main__", ["serch"], "no benchmark 'serch'; did you mean 'search'?"),
        ("benchmark.__main__", ["layers", "--rounds", "0"], "argument --rounds: 0 is not a whole number above zero"),
    ],
)
def test_options_that_make_no_sense(
    module: str, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in line_of(module, arguments, capsys)


def test_a_tilde_is_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OIALR_DATA", "~/data")
    options = (
        importlib.import_module("oialr_hpo.search")
        .parser()
        .parse_args(["vit_digits", "--out=~/x", "--start-from", "~/a.yaml", "--start-from=~/b"])
    )
    assert options.out == tmp_path / "x" and options.data_dir == tmp_path / "data"
    assert options.start_from == [tmp_path / "a.yaml", tmp_path / "b"]


@given(st.text(), st.integers(20, 400))
def test_any_text_becomes_one_short_line(text: str, longest: int) -> None:
    line = one_line(text, longest)
    assert line.isprintable() and len(line) <= longest
    assert one_line(line, longest) == line


def test_a_long_message_keeps_its_beginning_and_its_remedy() -> None:
    assert str(Mistake("file.yaml: " + "x" * 5000 + "; choose another")).startswith("file.yaml: xxx")
    assert str(Mistake("file.yaml: " + "x" * 5000 + "; choose another")).endswith("xxx; choose another")


@pytest.mark.parametrize(
    ("raised", "line"),
    [
        (Mistake("a: b"), "error: a: b\n"),
        (FileNotFoundError(2, "No such file or directory", "x\ny"), "error: x\\ny: No such file or directory\n"),
        (OSError("cannot identify image"), "error: cannot identify image\n"),
        (OSError(), "error: OSError\n"),
    ],
)
def test_what_a_command_raises(raised: Exception, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    @commands.command
    def main() -> None:
        raise raised

    with pytest.raises(SystemExit, match="2"):
        main()
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_nobody_reads_is_no_traceback(unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "oialr_hpo.benchmark", "--help"],
        stdout=writing,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")
