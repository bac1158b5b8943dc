"""YAML as people mean it: 1e-3 is a number, dates and times are text, and what is ambiguous or dangerous is refused.

Keys are text or whole numbers, each given once; `<<` takes over the keys of another mapping, or of a list of them.
Nesting and the number of values, aliases written out, are limited; tags are those of plain values.
"""

import re
from pathlib import Path
from typing import Any

import yaml
from yaml.reader import Reader

from oialr_hpo.files import read_text
from oialr_hpo.mistake import Mistake, reason

DEEPEST = 50
MOST_VALUES = 100_000
TAG = "tag:yaml.org,2002:"
MERGE = TAG + "merge"
PLAIN = {TAG + name for name in ("str", "int", "float", "bool", "null", "seq", "map", "merge")}


def read(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        Mistake: the file cannot be read, or is no such YAML.
    """
    return load(read_text(path), str(path))


def load(text: str, where: str) -> Any:
    """The content of a YAML text.

    Args:
        where: its name, for messages, which also name the line.

    Raises:
        Mistake: it is no such YAML.
    """
    if unprintable := Reader.NON_PRINTABLE.search(text):
        line = text.count("\n", 0, unprintable.start()) + 1
        raise Mistake(f"{where}:{line}: the character {unprintable[0]!r} cannot be read; remove it")
    try:
        return yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        problem = error.problem or reason(error)
        if problem.startswith("but "):
            problem = f"{error.context}, {problem}"
        if "'\\t'" in problem:
            problem += "; indent by spaces, not by tabs"
        place = f"{where}:{error.problem_mark.line + 1}" if error.problem_mark else where
        raise Mistake(f"{place}: {problem}") from None
    except yaml.YAMLError as error:
        raise Mistake(f"{where}: {reason(error)}") from None


def dump(content: Any, **style: Any) -> str:
    """Plain values as a YAML text that `load` gives back as they were."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, **style)


class _Loader(yaml.SafeLoader):
    def __init__(self, text: str):
        super().__init__(text)
        self._depth = 0
        self._sizes: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> Any:
        alias = self.check_event(yaml.AliasEvent)
        mark = self.peek_event().start_mark
        self._depth += 1
        if self._depth > DEEPEST:
            raise _refused(f"nested more than {DEEPEST} deep; is this the right file?", mark)
        node: Any = super().compose_node(parent, index)
        self._depth -= 1
        if alias and node not in self._sizes:
            raise _refused("an alias inside of what it stands for; write that out", mark)
        if not alias:
            self._check_tag(node)
            self._sizes[node] = 1 + sum(self._sizes[child] for child in _children(node))
        if self._sizes[node] > MOST_VALUES:
            raise _refused(f"more than {MOST_VALUES:,} values, with aliases written out; is this the right file?", mark)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """The mapping with what `<<` takes over: it ranks behind the mapping's own, and earlier before later."""
        node = super().compose_mapping_node(anchor)
        own: dict[Any, tuple[yaml.Node, yaml.Node]] = {}
        for pair in node.value:
            key = self._key(pair[0])
            if key in own:
                raise _refused(f"the key {key!r} is given twice; keep one", pair[0].start_mark)
            own[key] = pair
        if "<<" in own and own["<<"][0].tag == MERGE:
            _, taken = own.pop("<<")
            merged: dict[Any, tuple[yaml.Node, yaml.Node]] = {}
            for each in reversed(taken.value if isinstance(taken, yaml.SequenceNode) else [taken]):
                if not isinstance(each, yaml.MappingNode):
                    raise _refused("<< takes a mapping, such as *name, or a list of them", taken.start_mark)
                merged |= {self._key(pair[0]): pair for pair in each.value}
            node.value = list((merged | own).values())
        return node

    def _key(self, node: yaml.Node) -> str | int:
        if not isinstance(node, yaml.ScalarNode) or node.tag not in (MERGE, TAG + "str", TAG + "int"):
            shown = node.value if isinstance(node, yaml.ScalarNode) else "that is a list or a mapping"
            raise _refused(f"the key {shown} is no text; quote it", node.start_mark)
        key: str | int = "<<" if node.tag == MERGE else self.construct_object(node)
        return key

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, OverflowError):
            problem = f"{node.value!r} cannot be read as {node.tag.removeprefix(TAG)}; quote it if it is text"
            raise _refused(problem, node.start_mark) from None

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        tag: str = super().resolve(kind, value, implicit)
        sexagesimal = tag in (TAG + "int", TAG + "float") and isinstance(value, str) and ":" in value
        return TAG + "str" if sexagesimal else tag

    def _check_tag(self, node: yaml.Node) -> None:
        if node.tag not in PLAIN:
            tag = node.tag.replace(TAG, "!!")
            raise _refused(f"the tag {tag} is not known here; write plain values", node.start_mark)
        if node.tag == TAG + "int" and re.match(r"[-+]?0[0-9_]", node.value):
            problem = f"{node.value} may mean two numbers; leave out the zeros before it, or quote it if it is text"
            raise _refused(problem, node.start_mark)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _refused(problem: str, mark: yaml.Mark) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_multi_representer(float, lambda dumper, value: dumper.represent_float(float(value)))  # NumPy's float64

for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(
        TAG + "float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
    )
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in PLAIN]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}
