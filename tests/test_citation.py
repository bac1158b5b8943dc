"""What the package says of itself, in the files where it is looked for."""

from importlib.metadata import metadata
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
ABOUT = metadata("oialr_hpo")


def test_citation_and_package_are_of_one_version_and_licence() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["cff-version"], citation["title"]) == ("1.2.0", ABOUT["Name"])
    assert citation["version"] == ABOUT["Version"]
    assert citation["abstract"] == ABOUT["Summary"]
    assert f"Unreleased]: {ABOUT['Version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_both_papers_are_cited() -> None:
    references = yaml.safe_load((ROOT / "CITATION.cff").read_text())["references"]
    assert [paper["identifiers"][0]["value"] for paper in references] == ["arXiv:2401.08505", "arXiv:2407.04797"]
    assert all(paper["authors"] and paper["url"].endswith(paper["identifiers"][0]["value"][6:]) for paper in references)


def test_the_licence_is_named_alike_everywhere() -> None:
    tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == yaml.safe_load((ROOT / "CITATION.cff").read_text())["license"] == "BSD-3-Clause"
    assert (ROOT / "LICENSE").read_text().startswith("BSD 3-Clause License\n")


def test_what_is_checked_before_a_commit_is_what_the_test_script_checks() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local" and all(hook["language"] == "system" for hook in repository["hooks"])
    script = (ROOT / "launch" / "test.sh").read_text()
    for hook in repository["hooks"]:
        program, *_ = hook["entry"].split()
        assert f"\n{program} " in script or f"\n{program}\n" in script
