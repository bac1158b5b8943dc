"""What a run directory notes of the code that it was made with."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import oialr_hpo

SAY = "from oialr_hpo.engines.environment import environment; print(environment(1, 1)['commit'])"


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    return subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def noted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The commit that the package in `folder` notes."""
    monkeypatch.setenv("PYTHONPATH", str(folder))
    said = subprocess.run([sys.executable, "-c", SAY], cwd=folder, check=True, capture_output=True, text=True)
    return said.stdout.strip()


def test_the_commit_is_of_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of results beside it, nor of a checkout that the package is only installed in."""
    package = tmp_path / "oialr_hpo"
    shutil.copytree(Path(oialr_hpo.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    result = tmp_path / "results.txt"
    result.write_text("first")
    (tmp_path / ".gitignore").write_text("__pycache__\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".gitignore", "results.txt")
    git(tmp_path, "commit", "--quiet", "--message", "results")
    assert noted(tmp_path, monkeypatch) == "None"

    git(tmp_path, "add", "oialr_hpo")
    git(tmp_path, "commit", "--quiet", "--message", "the package")
    commit = git(tmp_path, "rev-parse", "--short=12", "HEAD").strip()
    result.write_text("second")
    assert noted(tmp_path, monkeypatch) == commit
    with open(package / "mistake.py", "a") as module:
        module.write("# changed\n")
    assert noted(tmp_path, monkeypatch) == f"{commit}-dirty"
