"""The pages' links lead somewhere, their lines are short, and the fields they list are those of the files."""

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest

from oialr_hpo import search, status
from tests.docs.shown import PAGES, ROOT, blocks, without_blocks

OTHERS = [path for path in (ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md") if path.exists()]
OLD_RUN = ROOT / "tests" / "data" / "version_0_1" / "trained"


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    """Those that mkdocs does not see too: of the pages outside docs/."""
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(page)):
        if not target.startswith("https://"):
            file, _, heading = target.partition("#")
            linked = page.parent / file if file else page
            assert linked.is_file(), f"{name(page)}: {target}"
            assert not heading or heading in headings(linked), f"{name(page)}: {target}"


def headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub and mkdocs make them."""
    titles = re.findall(r"^#+ (.*)$", without_blocks(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=name)
def test_lines_of_prose_are_short(page: Path) -> None:
    prose = [line for line in without_blocks(page).splitlines() if not line.startswith(("|", "#"))]
    assert max(map(len, prose)) <= 120


def test_the_files_that_the_design_names_are_there() -> None:
    """Also in its drawing of the rooms, which leaves out none."""
    page = ROOT / "docs" / "design.md"
    for path in re.findall(r"`([\w/]+\.(?:py|md))`", without_blocks(page)):
        assert (ROOT / path).is_file() or (ROOT / "oialr_hpo" / path).is_file(), path
    drawn = next(block.text for block in blocks(page) if block.text.startswith("oialr_hpo/\n"))
    names = set(re.findall(r"[\w.]+", drawn))
    there = (path.name.removesuffix(".py") for path in (ROOT / "oialr_hpo").glob("[a-z]*") if path.name != "py.typed")
    assert {name for name in there if not {name, f"{name}.py"} & names} == set()


def test_the_experiment_file_that_is_shown_is_the_shipped_one() -> None:
    shown = [block.text for block in blocks(ROOT / "docs" / "experiment.md") if block.language == "yaml"]
    assert shown == [(ROOT / "search_spaces" / "vit_digits.yaml").read_text()]


def test_the_readme_is_read_in_one_go() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 250


def listed(page: str) -> set[str]:
    """What stands in backquotes in the first two columns of a page's tables."""
    rows = re.findall(r"^\|(.*?)\|(.*)", (ROOT / "docs" / page).read_text(), re.MULTILINE)
    return {word for row in rows for word in re.findall(r"`([\w.]+)`", " ".join(row))}


def test_the_options_of_a_search_are_listed() -> None:
    page = (ROOT / "docs" / "searching.md").read_text()
    options = {name for action in search.parser()._actions for name in action.option_strings if name.startswith("--")}
    assert {f"`{option}" for option in options - {"--help"}} <= set(re.findall(r"^\| (`--[\w-]+)", page, re.MULTILINE))


def test_the_fields_of_a_status_are_listed(tmp_path: Path) -> None:
    changes = ["trials=2", "dense_baseline=false"]
    found: dict[str, Any] = status.status(
        search.run("vit_digits", changes=changes, out=tmp_path, objective="tests.objectives:bowl")
    )
    best = [f"best.{key}" for key in found["best"]]
    assert {*found, *found["trials"], *best} <= listed("run_directory.md")


def test_the_fields_of_a_trial_file_are_listed() -> None:
    fields = set()
    for file in OLD_RUN.glob("trials/*.jsonl"):
        for line in file.read_text().splitlines():
            event = json.loads(line)
            fields |= event.keys() | {event["event"]}
    assert {"metrics", "ranks", "seconds"} <= fields
    assert fields - {"event", "time", "clock"} <= listed("run_directory.md")


def test_the_arguments_of_oialr_are_listed() -> None:
    from oialr_hpo.oialr import OIALR

    assert set(inspect.signature(OIALR).parameters) <= listed("library.md")
