"""Completion of `oialr-hpo`: shells read the script and offer commands, options, choices, experiments and files."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from oialr_hpo.benchmark import __main__ as benchmark
from oialr_hpo.commands import COMMANDS
from oialr_hpo.experiment import flatten, known, load
from oialr_hpo.runs.trial import RETRIED
from oialr_hpo.samplers import NAMES

PRINT = """
import sys
from contextlib import redirect_stdout
from oialr_hpo.__main__ import main
main(["--help"])
for shell in ("bash", "zsh"):
    with redirect_stdout(open(shell, "w")):
        main(["completion", shell])
assert not {"torch", "mpi4py"} & {*sys.modules}
"""
OFFER = """
source ./bash
for line in "$@"; do
    IFS=, read -ra COMP_WORDS <<< "$line"
    COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _shtab_oialr_hpo
    echo "${COMPREPLY[@]}"
done
complete -p oialr-hpo
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the scripts `bash` and `zsh`, beside two files; printed by a process that stays light."""
    directory = tmp_path_factory.mktemp("scripts")
    subprocess.run([sys.executable, "-c", PRINT], cwd=directory, check=True, stdout=subprocess.DEVNULL)
    (directory / "mine.yaml").touch()
    (directory / "runs").mkdir()
    return directory


def test_bash_offers_commands_choices_experiments_and_files(scripts: Path) -> None:
    expected = {
        "oialr-hpo": {*COMMANDS},
        "oialr-hpo,search,vit_digits,--sampler": {*NAMES},
        "oialr-hpo,search,--retry": {state.value for state in RETRIED},
        "oialr-hpo,search": {*known(), "mine.yaml", "runs"},
        "oialr-hpo,reproduce": {"table2", "table3", "table4", *known(), "mine.yaml", "runs"},
        "oialr-hpo,train,vit_digits,--weights": {"mine.yaml", "runs", "bash", "zsh"},
        "oialr-hpo,status": {"runs"},
        "oialr-hpo,completion": {"bash", "zsh"},
        "oialr-hpo,benchmark": {*benchmark.NAMES},
    }
    *offered, end = bash(scripts, OFFER, *expected)
    assert {line: {*words.split()} for line, words in zip(expected, offered, strict=True)} == expected
    assert end.endswith("-F _shtab_oialr_hpo oialr-hpo")


def test_bash_offers_options(scripts: Path) -> None:
    assert offered_behind(scripts, "--re", "oialr-hpo,search,vit_digits") == [{"--resume", "--retry"}]
    assert offered_behind(scripts, "--r", "oialr-hpo,benchmark,layers") == [{"--ranks", "--rounds"}]


def test_bash_offers_keys_of_settings(scripts: Path) -> None:
    lines = ["oialr-hpo,search,vit_digits,--set", "oialr-hpo,benchmark,epoch,--set"]
    assert offered_behind(scripts, "schedule.warmup", *lines) == [{"schedule.warmup=", "schedule.warmup_lr="}] * 2
    (keys,) = offered_behind(scripts, "", lines[0])
    own = {key for key in flatten(load("vit_digits").dump()) if key.partition(".")[0] not in ("search", "start_from")}
    assert {key.partition("=")[0] for key in keys} >= {key for key in own if not key.startswith("model.arguments.")}
    assert {"rigl.density=", "data.seq_len=", "data.workers="} <= keys


def offered_behind(directory: Path, word: str, *lines: str) -> list[set[str]]:
    """What is offered for a word that is begun behind each of these."""
    program = OFFER.replace('COMP_WORDS+=("")', f'COMP_WORDS+=("{word}")')
    return [{*offered.split()} for offered in bash(directory, program, *lines)[:-1]]


def bash(directory: Path, program: str, *arguments: str) -> list[str]:
    line = ["bash", "--norc", "-c", program, "bash", *arguments]
    return subprocess.run(line, cwd=directory, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh")
def test_zsh_reads_the_script(scripts: Path) -> None:
    program = 'autoload -U compinit; compinit -D -u; eval "$(<zsh)"; print $_comps[oialr-hpo]'
    done = subprocess.run(["zsh", "-f", "-c", program], cwd=scripts, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("_shtab_oialr_hpo\n", "")
