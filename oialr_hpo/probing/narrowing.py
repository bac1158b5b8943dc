"""Which ranges of OIALR's settings follow from what a probe saw."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from oialr_hpo.experiment import Experiment
from oialr_hpo.experiment.space import Choice, FloatRange, Parameter
from oialr_hpo.probing.observation import Observation

MOST = 0.9
"""Of the layers: a few may take longer to settle."""
DIGITS = 3


@dataclass(frozen=True)
class Narrowed:
    """One setting's new line in the search space (None: fixed to `value`), the suggested value, and why."""

    key: str
    spec: dict[str, Any] | None
    value: Any
    reason: str


def narrow(experiment: Experiment, observation: Observation) -> list[Narrowed]:
    """Ranges inside those of the experiment, for those of OIALR's settings that it searches.

    - d: from when the first layer has settled to twice the time that MOST of them needed; without an upper end where
      these have not settled within the probe.
    - β: up to the cut that keeps the utilized rank in MOST layers, from a quarter of it on: cuts are repeated, each
      against a largest value that has grown.
    - α: at most so large that updates, which walk from the last layer to the front from the middle of the range of d
      on, every ν steps, reach no layer before it has settled.
    - keep_first, keep_last: the layer stays dense if it has not settled or uses its full rank; it does not if it has
      settled no later than most and uses at most half its rank; both are tried otherwise.

    What the experiment starts from stays inside, and its priors: a range is widened to hold them. One that would end up
    empty is left as it was.
    """
    layers = observation.layers
    found: list[Narrowed] = []
    times = sorted(math.inf if layer.settled is None else layer.settled for layer in layers)
    first, most = times[0], times[math.ceil(MOST * len(times)) - 1]
    if most < math.inf:
        low, high, start = first, 2 * most, most
        reason = f"bases had settled at {first:.3g} of the run in the first layer, at {most:.3g} in {MOST:.0%} of all"
    else:
        low, high, start = min(first, observation.share), 1.0, observation.share
        reason = f"{times.count(math.inf)} of {len(times)} layers had not settled at {start:.3g} of the run"
    delay = _range(experiment, "oialr.delay", low, high, start, reason)
    found += delay

    cuts = sorted(layer.cutoff for layer in layers if layer.cutoff is not None)
    if cuts:
        high = cuts[len(cuts) - math.ceil(MOST * len(cuts))]
        reason = f"a cut keeps the utilized rank in {MOST:.0%} of the layers up to {high:.3g}"
        found += _range(experiment, "oialr.cutoff", high / 4, high, high / 2, reason)

    change_over = delay[0].value if delay else experiment.value("oialr.delay")
    frequency = experiment.value("oialr.frequency")
    if isinstance(change_over, float) and isinstance(frequency, float):
        middle = sum(delay[0].spec["float"]) / 2 if delay and delay[0].spec else change_over
        limits = [
            frequency * (len(layers) - place) / len(layers) / (settles - middle)
            for place, layer in enumerate(layers)
            if (settles := layer.settled or observation.share) > middle
        ]
        if limits:
            reason = f"a change-over at {middle:.3g} of the run, and no update of a layer before it has settled"
            found += _range(experiment, "oialr.step_fraction", 0.0, min(limits), min(limits), reason)

    typical = median(times)
    for key, layer in (("oialr.keep_first", layers[0]), ("oialr.keep_last", layers[-1])):
        used = layer.utilized_rank / layer.max_rank if layer.utilized_rank else None
        if layer.settled is None or used == 1:
            why = "has not settled" if layer.settled is None else "uses its full rank"
            found += _fixed(experiment, key, True, f"{layer.name} {why}")
        elif layer.settled <= typical and used is not None and used <= 0.5:
            found += _fixed(experiment, key, False, f"{layer.name} has settled early and uses {used:.0%} of its rank")
    return found


def _range(experiment: Experiment, key: str, low: float, high: float, value: float, reason: str) -> list[Narrowed]:
    """The part of a searched range that lies in [low, high]; none where nothing remains or nothing is lost."""
    before = _anywhere(experiment, key)
    if not isinstance(before, FloatRange):
        return []
    low, high, value = (float(f"{number:.{DIGITS}g}") for number in (low, high, value))
    low, high = max(low, before.low), min(high, before.high)
    if low >= high:
        return []
    value = min(max(value, low), high)
    held: list[Any] = [*(start[key] for start in experiment.starts()), *_prior(experiment, key).values()]
    low, high = min(low, *held, math.inf), max(high, *held, -math.inf)
    if (low, high) == (before.low, before.high):
        return []
    return [Narrowed(key, FloatRange(low, high, before.log).spec() | _prior(experiment, key), value, reason)]


def _fixed(experiment: Experiment, key: str, value: bool, reason: str) -> list[Narrowed]:
    """A searched choice that needs no search any more; none where a start or the prior says otherwise."""
    searched = isinstance(_anywhere(experiment, key), Choice)
    held = [*(start[key] for start in experiment.starts()), *_prior(experiment, key).values()] if searched else [None]
    agreed = all(each is value for each in held)
    return [Narrowed(key, None, value, reason)] if agreed else []


def _prior(experiment: Experiment, key: str) -> dict[str, Any]:
    """Of a searched setting's line, if it has one."""
    return {name: value for name, value in experiment.search[key].items() if name == "prior"}


def _anywhere(experiment: Experiment, key: str) -> Parameter | None:
    """What a setting may be that is searched whatever the others are, and no multiple of one."""
    space = experiment.space
    linked = key in space.conditions or "times" in experiment.search.get(key, {})
    return None if linked else space.parameters.get(key)


def narrowed(experiment: Experiment, observation: Observation, changes: Sequence[Narrowed]) -> Experiment:
    """The experiment with these changes; what the probe suggests is one more start."""
    changed = {change.key: change for change in changes}
    specs = {key: changed[key].spec if key in changed else spec for key, spec in experiment.search.items()}
    search = {key: spec for key, spec in specs.items() if spec is not None}
    starts = [{key: value for key, value in start.items() if key in search} for start in experiment.start_from]
    suggestion = {key: change.value for key, change in changed.items() if key in search}
    fixed = experiment.with_settings({change.key: change.value for change in changes if change.spec is None})
    return fixed.model_copy(
        update={
            "search": search,
            "start_from": [*starts, *([suggestion] if suggestion else [])],
            "evidence": {"probe": asdict(observation)},
        },
    )
