"""YAML in which numbers such as 1e-3 are numbers and repeated keys are refused."""

import re
from typing import Any

import yaml


class Error(ValueError):
    """The text is not YAML: the problem, and its line, counted from 1, where that is known."""

    def __init__(self, problem: str, line: int | None):
        super().__init__(problem)
        self.line = line


def load(text: str) -> Any:
    """The content of a YAML text.

    Raises:
        Error: it is none.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise Error(getattr(error, "problem", None) or str(error), mark.line + 1 if mark else None) from None


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=deep)
            if isinstance(key, (list, dict)):
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} cannot be a key", key_node.start_mark)
            if key in seen:
                problem = f"the key {key!r} is given twice; keep one"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)
