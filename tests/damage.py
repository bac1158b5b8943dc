"""Ways in which a file is damaged, or written by someone who knows little of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

Damage = Callable[[Path], None]

NUMBERS: list[Any] = [None, True, -1, 0, 3.5, 10**30, 1e300]
JUNK = [*NUMBERS, "", "text", "9s", "a\nb\x1b", [], [1, "a"], {}, {"a": {"b": 1}}]
SHARES = st.floats(0, 1, exclude_max=True)


def truncated(share: float) -> Damage:
    return lambda file: file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)]) and None


def overwritten(share: float, junk: bytes) -> Damage:
    def damage(file: Path) -> None:
        content = file.read_bytes()
        place = int(share * len(content))
        file.write_bytes(content[:place] + junk + content[place + len(junk) :])

    return damage


def replaced(content: bytes) -> Damage:
    return lambda file: file.write_bytes(content) and None


def a_directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def a_broken_link(file: Path) -> None:
    file.unlink()
    file.symlink_to("gone")


def mistaken(share: float, junk: Any) -> Damage:
    """Another value in one place, or none at all."""

    def damage(file: Path) -> None:
        text = file.read_text()
        log = file.suffix == ".jsonl"
        documents = [json.loads(line) for line in text.splitlines()] if log else [yaml.safe_load(text)]
        places = [place for document in documents for place in _places(document)]
        holder, key = places[int(share * len(places))]
        if junk == "missing":
            del holder[key]
        else:
            holder[key] = junk
        dumped = map(json.dumps if log else yaml.safe_dump, documents)
        file.write_text("\n".join(dumped) + "\n")

    return damage


def _places(content: Any) -> list[tuple[Any, Any]]:
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [place for key, value in items for place in [(content, key), *_places(value)]]


BYTES = st.one_of(
    st.builds(truncated, SHARES),
    st.builds(overwritten, SHARES, st.binary(min_size=1, max_size=8)),
    st.builds(replaced, st.binary(max_size=64)),
    st.sampled_from([a_directory, a_broken_link]),
)
"""Of any file."""

SETTINGS = st.one_of(BYTES, st.builds(mistaken, SHARES, st.sampled_from([*JUNK, "missing"])))
"""Of a YAML file, or of one with a JSON text per line."""
