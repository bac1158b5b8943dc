"""YAML: what is read as people mean it, what is refused, and that what is written reads back."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oialr_hpo.experiment import ExperimentError, load
from oialr_hpo.experiment.strict_yaml import dump, read
from oialr_hpo.experiment.strict_yaml import load as parse
from oialr_hpo.mistake import Mistake

BOMB = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 10)}]\n" for n in range(12))

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
CONTENT = st.recursive(
    PLAIN, lambda each: st.lists(each) | st.dictionaries(st.text() | st.integers(), each), max_leaves=12
)


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("{a: 1e-3, b: 5e-5, c: -2E4, d: 1e, e: 1.5e3}", {"a": 1e-3, "b": 5e-5, "c": -2e4, "d": "1e", "e": 1.5e3}),
        ("{a: 2020-01-01, b: 1:30, c: 12:30:45.5, d: =}", dict(a="2020-01-01", b="1:30", c="12:30:45.5", d="=")),
        ("\ufeffa: 1", {"a": 1}),
        ("base: &b {x: 1, y: 2}\nmine: {<<: *b, y: 3}", {"base": {"x": 1, "y": 2}, "mine": {"x": 1, "y": 3}}),
        ("mine: {y: 3, <<: {x: 1, y: 2}}", {"mine": {"x": 1, "y": 3}}),
        ("mine: {<<: [{x: 1}, {x: 2, y: 2}], z: 3}", {"mine": {"x": 1, "y": 2, "z": 3}}),
        (
            "a: &a {x: 1}\ndeep: {b: &b {<<: *a, x: 2}}\nc: {<<: *b, y: 1}",
            {"a": {"x": 1}, "deep": {"b": {"x": 2}}, "c": {"x": 2, "y": 1}},
        ),
        ("a: &a [1]\nb: *a", {"a": [1], "b": [1]}),
        ("{1: one, '1': text}", {1: "one", "1": "text"}),
        ("a: !!str 1\nb: !!float 1", {"a": "1", "b": 1.0}),
        ("", None),
    ],
)
def test_what_is_read(text: str, content: Any) -> None:
    assert parse(text.removeprefix("\ufeff"), "") == content


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\na: 2", "f:2: the key 'a' is given twice; keep one"),
        ("a: {b: 1, 'b': 2}", "the key 'b' is given twice"),
        ("a: {<<: {x: 1}, <<: {y: 1}}", "the key '<<' is given twice"),
        ("0x1: a\n1: b", "f:2: the key 1 is given twice"),
        ("a: 1\nepochs: 010", "f:2: 010 may mean two numbers; leave out the zeros before it"),
        ("[0, -007]", "-007 may mean two numbers"),
        ("on: 1", "f:1: the key on is no text; quote it"),
        ("null: 1", "the key null is no text"),
        ("1.5: 1", "the key 1.5 is no text"),
        ("? [a]\n: 1", "that is a list or a mapping is no text"),
        ("a: " + "[" * 3000 + "]" * 3000, "nested more than 50 deep"),
        ("a: " + "{a: " * 3000, "nested more than 50 deep"),
        ("".join("  " * n + "a:\n" for n in range(60)), "f:50: nested more than 50 deep"),
        (BOMB, "more than 100,000 values, with aliases written out"),
        ("a: &a [*a]", "an alias inside of what it stands for"),
        ("a: &a {<<: *a}", "an alias inside of what it stands for"),
        ("a: *b", "found undefined alias 'b'"),
        ("a: {<<: 1}", "<< takes a mapping, such as *name, or a list of them"),
        ("a: !!python/object/apply:os.system [ls]", "the tag !!python/object/apply:os.system is not known here"),
        ("a: !mine 1", "the tag !mine is not known here"),
        ("a: !!binary aGk=", "the tag !!binary is not known here"),
        ("a: !!int x", "'x' cannot be read as int"),
        ("a: !!bool maybe", "'maybe' cannot be read as bool"),
        ("a: " + "9" * 5000, "cannot be read as int"),
        ("a: 1\n---\nb: 1", "expected a single document in the stream, but found another document"),
        ("a:\n\tb: 1", "indent by spaces, not by tabs"),
        ("a: 1\nb: \0", r"f:2: the character '\x00' cannot be read"),
        ("a: \ud800", r"the character '\ud800' cannot be read"),
        ("a: [1", "f:1: expected ',' or ']'"),
        ("a: 'x", "found unexpected end of stream"),
        ("a: b: c", "mapping values are not allowed here"),
        ("%YAML 3.0\n---\na: 1", "found incompatible YAML document"),
    ],
)
def test_what_is_refused_is_one_line(text: str, problem: str) -> None:
    with pytest.raises(Mistake) as caught:
        parse(text, "f")
    line = str(caught.value)
    assert line.startswith("f:") and problem in line and line.isprintable() and len(line) <= 300


@given(CONTENT)
def test_what_is_written_reads_back(content: Any) -> None:
    assert parse(dump(content), "") == content
    assert repr(parse(dump(content), "")) == repr(content)  # of the same types


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse(text, "f")
    except Mistake as mistake:
        assert str(mistake).isprintable()


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    def refused(name: str) -> str:
        with pytest.raises(ExperimentError) as caught:
            load(str(tmp_path / name))
        return str(caught.value).removeprefix(f"{tmp_path}/")

    (tmp_path / "latin.yaml").write_bytes(b"a: 1\ntask: \xff\n")
    (tmp_path / "utf16.yaml").write_text("task: x", encoding="utf-16")
    (tmp_path / "directory.yaml").mkdir()
    (tmp_path / "broken.yaml").symlink_to(tmp_path / "gone")
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    (tmp_path / "large.yaml").write_bytes(b"# " + b"x" * 2**23)
    (tmp_path / "empty.yaml").write_bytes(b"")
    (tmp_path / "list.yaml").write_text("[1, 2]")
    os.mkfifo(tmp_path / "pipe.yaml")
    assert refused("latin.yaml") == "latin.yaml:2: the byte 0xff is not UTF-8; save it as UTF-8"
    assert refused("utf16.yaml").startswith("utf16.yaml:1: the byte 0xff is not UTF-8")
    assert refused("directory.yaml") == "directory.yaml: a directory, where a file is expected"
    assert refused("broken.yaml") == f"broken.yaml: a link to {tmp_path}/gone, which does not exist; mend the link"
    assert refused("loop.yaml").startswith("loop.yaml: ")
    assert refused("large.yaml") == "large.yaml: larger than 4 MiB; is this the right file?"
    assert refused("pipe.yaml") == "pipe.yaml: no regular file; copy its content into one"
    assert refused("latim.yaml") == "latim.yaml: no such file; did you mean 'latin.yaml'?"
    assert refused("zzz.yaml") == "zzz.yaml: no such file"
    assert refused("x" * 300 + ".yaml").endswith("File name too long; mend that, or choose another")
    for name in ("empty.yaml", "list.yaml"):
        assert refused(name).endswith("an experiment is a mapping with a task, data, model and training section")


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    (tmp_path / "bom.yaml").write_text("a: ü", encoding="utf-8-sig")
    assert read(tmp_path / "bom.yaml") == {"a": "ü"}


def test_files_that_extend_each_other_are_named(tmp_path: Path) -> None:
    for name, extended in (("a", "b"), ("b", "c"), ("c", "b"), ("self", "self")):
        (tmp_path / f"{name}.yaml").write_text(f"extends: {extended}.yaml\n")
    for n in range(100):
        (tmp_path / f"{n}.yaml").write_text(f"extends: {n + 1}.yaml\n")
    with pytest.raises(ExperimentError, match=r"a.yaml extends b.yaml extends c.yaml extends b.yaml"):
        load(str(tmp_path / "a.yaml"))
    with pytest.raises(ExperimentError, match=r"self.yaml extends self.yaml"):
        load(str(tmp_path / "self.yaml"))
    with pytest.raises(ExperimentError, match=r"so many files cannot extend each other"):
        load(str(tmp_path / "0.yaml"))
    (tmp_path / "a.yaml").write_text("extends: [b.yaml]\n")
    with pytest.raises(ExperimentError, match=r"no other file \['b.yaml'\] beside it"):
        load(str(tmp_path / "a.yaml"))
