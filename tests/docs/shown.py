"""What the pages show: their code blocks, and the commands in them as a shell would start them."""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
READMES = [ROOT / place / "README.md" for place in (".", "launch", "examples")]
PAGES = [*READMES, *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGES = ("bash", "console", "python", "yaml", "text")

RECORD = r"""
exec 3>&1
command_not_found_handle() { printf '%s\037' "PYTHONPATH=$PYTHONPATH" "$@" >&3; printf '\036' >&3; }
"""
"""Under a PATH that leads nowhere: says what would have been started, by bash's own reading of loops and variables."""


@dataclass(frozen=True)
class Block:
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The name in its first line, `# NAME`, where the block is a file that the reader writes."""
        found = re.match(r"# (\S+\.(?:py|yaml))\n", self.text)
        return found[1] if found else None


@dataclass(frozen=True)
class Command:
    words: tuple[str, ...]
    python_path: str = ""

    def __str__(self) -> str:
        return " ".join(self.words)


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    for _, language, text in re.findall(r"^(```+)(.*)\n((?:.*\n)*?)\1$", page.read_text(), re.MULTILINE):
        yield Block(language, text)


def without_blocks(page: Path) -> str:
    """The prose of a page."""
    return re.sub(r"^(```+).*\n(?:.*\n)*?\1$", "", page.read_text(), flags=re.MULTILINE)


def commands(shell: str) -> list[Command]:
    """What a shell block starts, in order; nothing is run."""
    with tempfile.TemporaryDirectory() as elsewhere:  # where redirected output goes
        recorded = subprocess.run(
            ["/bin/bash", "-euo", "pipefail", "-c", f"{RECORD}\nPYTHONPATH=; {shell}"],
            env={"PATH": "/nowhere"},
            cwd=elsewhere,
            capture_output=True,
            text=True,
            check=True,
        )
    assert not recorded.stderr, recorded.stderr
    found = []
    for line in recorded.stdout.split("\036")[:-1]:
        python_path, *words = line.split("\037")[:-1]
        found.append(Command(tuple(words), python_path.removeprefix("PYTHONPATH=")))
    return found


def commands_in_prose(page: Path) -> list[Command]:
    """Commands in the text: `python -m oialr_hpo...` and `mpirun ...`, without `...` and options in brackets."""
    spans = re.findall(r"`((?:python -m oialr_hpo|mpirun -n)[^`]*)`", without_blocks(page))
    return [Command(tuple(span.split())) for span in spans]
