"""Which networks there are, read off the sources of timm and torchvision, so that torch is not imported."""

import difflib
import re
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from oialr_hpo.section import Section

CIFAR = tuple(f"vgg{depth}_cifar" for depth in (11, 13, 16, 19)) + tuple(
    f"resnet{depth}_cifar" for depth in (18, 50, 101)
)
TIMM = re.compile(r"^@register_model\n(?:@.*\n)*def (\w+)|^class (\w+)|^    ['\"](\w+)['\"]: ['\"][\w.]*['\"],", re.M)
TORCHVISION = re.compile(r"^@register_model\(.*\)\n(?:@.*\n)*def (\w+)", re.M)


class Network(Section):
    """A network and its arguments, see `oialr_hpo.tasks.image_classification.networks.build_network`."""

    name: str = Field(description="of timm; torchvision/NAME; or vgg16_cifar, resnet18_cifar and their like")
    arguments: dict[str, Any] = Field({}, description="of the network, such as {num_classes: 10}")

    @field_validator("name")
    @classmethod
    def _exists(cls, name: str) -> str:
        return name if "timm" in sys.modules else check_network_name(name)  # once loaded, timm says so itself


@cache
def network_names() -> frozenset[str]:
    """The names of the networks that `build_network` knows."""
    return frozenset(
        {*CIFAR, *_found("timm", TIMM), *(f"torchvision/{name}" for name in _found("torchvision", TORCHVISION))}
    )


def check_network_name(name: str) -> str:
    """The name itself.

    Raises:
        ValueError: there is no such network; the message names the most similar one.
    """
    known = network_names()
    if name.partition(".")[0] in known:
        return name
    if ":" in name:  # hf-hub:timm/resnet18.a1_in1k, local-dir:...: what is behind it is not known before it is loaded
        inner = re.split("[:/]", name)[-1]
        such = f", such as {inner!r}" if inner.partition(".")[0] in known else ""
        raise ValueError(f"a network of a hub or a directory cannot be searched; name timm's own{such}")
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    raise ValueError(f"name a network of timm or torchvision{f', such as {near[0]!r}' if near else ''}")


def _found(package: str, pattern: re.Pattern[str]) -> set[str]:
    spec = find_spec(package)
    directories = list(spec.submodule_search_locations or []) if spec else []
    sources = [file for directory in directories for file in (Path(directory) / "models").rglob("*.py")]
    return {
        name for file in sources for match in pattern.findall(file.read_text(encoding="utf-8"))
        for name in ((match,) if isinstance(match, str) else match) if name
    }  # fmt: skip
