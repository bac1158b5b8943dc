"""What a probe prints and writes: its layers, what it changes, and the narrowed experiment as a YAML file."""

from collections.abc import Sequence
from typing import Any

from oialr_hpo.experiment import Experiment, strict_yaml
from oialr_hpo.mistake import escaped
from oialr_hpo.probing.narrowing import Narrowed, narrowed
from oialr_hpo.probing.observation import Observation
from oialr_hpo.runs.printing import clock, table


def document(experiment: Experiment, observation: Observation, changes: Sequence[Narrowed], command: str) -> str:
    """The narrowed experiment as a YAML file, with the evidence in comments."""
    accuracy = "" if observation.accuracy is None else f"; accuracy {observation.accuracy:.2f} % there"
    heading = [
        f"Search narrowed by a probe: {observation.epochs} epochs of dense training, {observation.share:.0%} of a run, "
        f"seed {experiment.seed}, {clock(observation.seconds)}{accuracy}",
        f"made by: {command}",
        "",
        *layer_table(observation).splitlines(),
    ]
    lines = [f"# {escaped(line)}".rstrip() for line in heading]
    content = strict_yaml.dump(narrowed(experiment, observation, changes).dump(), default_flow_style=None, width=120)
    reasons = {change.key: change for change in changes}
    section = ""
    for line in content.splitlines():
        section = line if not line.startswith(" ") else section
        key = line.strip().partition(":")[0]
        if section == "search:" and key in reasons and reasons[key].spec:
            lines.append(f"  # {_was(experiment, key)}: {reasons[key].reason}")
        lines.append(line)
        if line == "search:":
            fixed = [change for change in changes if change.spec is None]
            lines += [f"  # {change.key} is {str(change.value).lower()}: {change.reason}" for change in fixed]
    return "\n".join(lines) + "\n"


def layer_table(observation: Observation) -> str:
    header = ["layer", "settled at", "highest rank", "utilized", "β that keeps it"]
    rows = [
        [
            layer.name,
            "later" if layer.settled is None else f"{layer.settled:.3f}",
            layer.max_rank,
            layer.utilized_rank,
            layer.cutoff,
        ]
        for layer in observation.layers
    ]
    return table(header, rows)


def change_table(experiment: Experiment, changes: Sequence[Narrowed]) -> str:
    if not changes:
        return "nothing to narrow: the probe agrees with the whole search"
    rows = [
        [
            change.key,
            _bounds(experiment.search[change.key]),
            _bounds(change.spec) if change.spec else change.value,
            change.reason,
        ]
        for change in changes
    ]
    return table(["setting", "before", "narrowed", "because"], rows)


def _was(experiment: Experiment, key: str) -> str:
    return f"was {_bounds(experiment.search[key])}"


def _bounds(spec: dict[str, Any]) -> str:
    """A line of the search space in short: [0.05, 0.6]."""
    return str(spec.get("float") or spec.get("int") or spec.get("choices"))
