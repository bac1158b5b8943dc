"""`python -m oialr_hpo.probe EXPERIMENT`: a short dense training narrows the search of OIALR's own settings.

The first share of a dense run tells, for every layer that OIALR would convert:

- when its bases settle: from which epoch on its stability (OIALR paper, equation 4) stays at `SETTLED` or above;
- its utilized rank (arXiv:2407.04797) at the end, and the cut that keeps it: the singular value of that place over the
  largest one.

From these follow ranges for d, β, α, and whether the first and last layer are to stay dense; see `narrow`. All other
settings keep the ranges that they had.
"""

from __future__ import annotations

import math
import os
import shlex
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from oialr_hpo import experiment as experiments
from oialr_hpo.commands import Parser, command, natural, not_negative, path, positive, share
from oialr_hpo.experiment import Experiment, ExperimentError, strict_yaml
from oialr_hpo.experiment.space import Choice, FloatRange
from oialr_hpo.files import check_writable, write_whole
from oialr_hpo.mistake import Mistake, escaped, reason
from oialr_hpo.runs.printing import clock, table

if TYPE_CHECKING:
    from torch import nn

    from oialr_hpo.utilization import Utilization

SETTLED = 0.95
"""Stability from which on a layer's bases count as settled."""
LOOK_BACK = 60
"""Stability compares with the weights this part of the run before: five epochs of 300, as in the paper."""
SHARE = 0.25
TOLERANCE = 0.1
MOST = 0.9
"""Of the layers: a few may take longer to settle."""
DIGITS = 3
NARROWED = ("search", "start_from", "oialr", "evidence")
"""Of an experiment, what a probe changes."""


@dataclass(frozen=True)
class Layer:
    """What a probe saw of one layer that OIALR would convert.

    Attributes:
        settled: share of the run after which its bases had settled; None: not within the probe.
        max_rank: min(m, n).
        utilized_rank: None where the task gives no validation images to find it with.
        cutoff: the largest β that keeps this rank in one cut, in (0, 1].
    """

    name: str
    settled: float | None
    max_rank: int
    utilized_rank: int | None = None
    cutoff: float | None = None


@dataclass(frozen=True)
class Observation:
    """What a probe saw, and what it cost: `share` of a run, and in all `seconds`, of which `training_seconds` so."""

    layers: list[Layer]
    share: float
    epochs: int
    seconds: float
    training_seconds: float
    accuracy: float | None = None
    mlu: float | None = None


@dataclass(frozen=True)
class Narrowed:
    """One setting's new line in the search space (None: fixed to `value`), the suggested value, and why."""

    key: str
    spec: dict[str, Any] | None
    value: Any
    reason: str


@command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = Parser("probe", __doc__.split("\n")[0].split(": ")[1])
    parser.add_argument("name", metavar="EXPERIMENT", help="an experiment that ships with the package, or a .yaml path")
    parser.add_argument(
        "--share", type=share, default=SHARE, metavar="S", help=f"of a dense run that is trained (default: {SHARE})"
    )
    parser.add_argument(
        "--tolerance",
        type=not_negative,
        default=TOLERANCE,
        metavar="E",
        help="percent of accuracy, of the utilized rank",
    )
    parser.add_argument("--seed", type=natural, metavar="S")
    parser.add_changes()
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads (default: all)")
    parser.add_argument("--out", type=path, metavar="FILE", help="the narrowed experiment (default: NAME-probed.yaml)")
    parser.add_data_directories()
    options = parser.parse_args(arguments)
    changes = [*options.set, *([f"seed={options.seed}"] if options.seed is not None else [])]
    out = options.out or Path(f"{Path(options.name).stem}-probed.yaml")
    given = shlex.join(["python", "-m", "oialr_hpo.probe", *(sys.argv[1:] if arguments is None else arguments)])
    experiment = experiments.load(options.name, changes)
    if os.path.lexists(out):
        raise Mistake(f"{out} is there already; move it away, or choose another --out")
    check_writable(out, remedy="choose another --out")
    experiments.prepare_data(experiment, options.data_dir)
    from oialr_hpo.engines.worker import threads_per_worker
    from oialr_hpo.training.rehearsal import rehearse

    list(rehearse(experiment, seed=experiment.seed, threads=threads_per_worker(1), data_dir=options.data_dir))
    try:
        probe(experiment, out, given, options.data_dir, options.threads, options.share, options.tolerance)
    except OSError as error:
        raise Mistake(f"{out} cannot be written: {reason(error)}; choose another --out") from None
    print(f"\n{out}\nsearch it: python -m oialr_hpo.search {shlex.quote(str(out))}")


def probe(
    experiment: Experiment,
    out: Path,
    command: str,
    data_dir: Path | None = None,
    threads: int | None = None,
    share: float = SHARE,
    tolerance: float = TOLERANCE,
) -> None:
    """Train the dense network for a share of a run, and write the experiment with a narrowed search to `out`.

    Args:
        experiment: with a search that holds settings of OIALR.
        command: that makes the file again, for its heading.
        threads: CPU threads; None: all.
        tolerance: of the utilized rank, in percent of validation accuracy per projection.

    Raises:
        ExperimentError: none of OIALR's settings is searched, or the training diverged.
        OSError: `out` cannot be written.
    """
    if not {"oialr.delay", "oialr.cutoff", "oialr.step_fraction"} & set(experiment.search):
        raise ExperimentError("probe: neither oialr.delay nor oialr.cutoff nor oialr.step_fraction is searched")
    out.parent.mkdir(parents=True, exist_ok=True)
    observation = observe(experiment, data_dir, threads, share, tolerance)
    changes = narrow(experiment, observation)
    print(f"\n{layer_table(observation)}\n\n{change_table(experiment, changes)}")
    write_whole(out, document(experiment, observation, changes, command))


def probed(experiment: Experiment, file: Path, data_dir: Path | None, resume: bool) -> Experiment:
    """The experiment with its search narrowed by a probe in a process of its own, which writes `file`.

    With `resume`, what an earlier one wrote there is taken.

    Raises:
        ExperimentError: the probe failed.
    """
    if not (resume and file.exists()):
        command = shlex.join(["python", "-m", "oialr_hpo.search", *sys.argv[1:]])
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # this process is to stay free of torch
            try:
                pool.submit(probe, experiment, file, command, data_dir).result()
            except BrokenProcessPool:
                raise ExperimentError("probe: its process died; what it printed is above") from None
            except OSError as error:
                raise ExperimentError(f"{file} cannot be written: {error.strerror}; choose another --out") from None
    found = experiments.load(str(file))
    return experiment.model_copy(update={key: getattr(found, key) for key in NARROWED})


def observe(
    experiment: Experiment,
    data_dir: Path | None = None,
    threads: int | None = None,
    share: float = SHARE,
    tolerance: float = TOLERANCE,
) -> Observation:
    """Train the dense network for a share of its run and look at its layers; prints a line per epoch.

    Raises:
        ExperimentError: the training diverged.
    """
    import torch

    from oialr_hpo.engines.worker import threads_per_worker
    from oialr_hpo.oialr import plan
    from oialr_hpo.training import devices
    from oialr_hpo.training.loop import Diverged, train
    from oialr_hpo.training.objective import build_task
    from oialr_hpo.utilization import Accuracy, analyse
    from oialr_hpo.utilization.images import IMAGES

    started = time.perf_counter()
    torch.set_num_threads(threads or threads_per_worker(1))
    device = devices.choose(0)
    epochs = experiment.training.epochs
    lag = max(1, round(epochs / LOOK_BACK))
    probed = min(epochs, max(lag + 1, math.ceil(share * epochs)))
    dense = experiment.fixed().with_settings({"method": "dense", "training.track": lag})
    task: Any = build_task(experiment, seed=experiment.seed, device=device, data_dir=data_dir)
    torch.manual_seed(experiment.seed)
    network: nn.Module = task.build_model()
    task.build_model = lambda: network
    stability: dict[str, list[tuple[int, float]]] = {layer.name: [] for layer in plan(network) if not layer.reason}
    records = train(dense, task, experiment.seed, device)
    try:
        for record in records:
            for name, value in record.get("stability", {}).items():
                stability[name].append((record["epoch"], value))
            lowest = min(record.get("stability", {}).values(), default=None)
            shown = f"  lowest stability {lowest:.3f}" if lowest is not None else ""
            print(
                f"probe  epoch {record['epoch']}/{probed} of {epochs}  train_loss {record['train_loss']:.4g}{shown}",
                flush=True,
            )
            if record["epoch"] == probed:
                break
    except Diverged as error:
        raise ExperimentError(f"probe: {error}; lower schedule.lr") from None
    records.close()
    trained = time.perf_counter() - started
    found = None
    if hasattr(task, "evaluation_batches"):
        found = analyse(network, task.training_batches(IMAGES), Accuracy(task.evaluation_batches()), tolerance)
        print(f"probe  utilized ranks: {found.passes:.0f} validation passes, {clock(found.seconds)}", flush=True)
    return Observation(
        layers=_layers(network, stability, epochs, found),
        share=probed / epochs,
        epochs=probed,
        seconds=time.perf_counter() - started,
        training_seconds=trained,
        accuracy=found.original_accuracy if found else None,
        mlu=found.mlu if found else None,
    )


def _layers(
    network: nn.Module, stability: dict[str, list[tuple[int, float]]], epochs: int, found: Utilization | None
) -> list[Layer]:
    import torch

    from oialr_hpo.oialr import plan
    from oialr_hpo.oialr.conversion import planned_weights

    report = plan(network)
    names = [layer.name for layer in report if not layer.reason]
    ranks = found.ranks if found else {}
    layers = []
    for name, weight in zip(names, planned_weights(network, report), strict=True):
        rank, cutoff = ranks.get(name), None
        if rank:
            values = torch.linalg.svdvals(weight.detach().flatten(1).double())
            cutoff = (values[rank - 1] / values[0]).item()
        layers.append(Layer(name, settling(stability[name], epochs), min(weight.flatten(1).shape), rank, cutoff))
    return layers


def settling(stability: Sequence[tuple[int, float]], epochs: int) -> float | None:
    """Share of the run from which on all of a layer's (epoch, stability) reach SETTLED; None: its last one does not."""
    settled = None
    for epoch, value in stability:
        if value < SETTLED:
            settled = None
        elif settled is None:
            settled = epoch / epochs
    return settled


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

    What the experiment starts from stays inside: a range is widened to hold it. One that would end up empty is left as
    it was.
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

    change_over = delay[0].value if delay else experiment.oialr.delay
    if isinstance(change_over, float) and isinstance(experiment.oialr.frequency, float):
        middle = sum(delay[0].spec["float"]) / 2 if delay and delay[0].spec else change_over
        limits = [
            experiment.oialr.frequency * (len(layers) - place) / len(layers) / (settles - middle)
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
    before = experiment.space.parameters.get(key)
    if not isinstance(before, FloatRange):
        return []
    low, high, value = (float(f"{number:.{DIGITS}g}") for number in (low, high, value))
    low, high = max(low, before.low), min(high, before.high)
    if low >= high:
        return []
    value = min(max(value, low), high)
    starts: list[Any] = [start[key] for start in experiment.starts()]
    low, high = min(low, *starts, math.inf), max(high, *starts, -math.inf)
    if (low, high) == (before.low, before.high):
        return []
    return [Narrowed(key, FloatRange(low, high, before.log).spec(), value, reason)]


def _fixed(experiment: Experiment, key: str, value: bool, reason: str) -> list[Narrowed]:
    """A searched choice that needs no search any more; none where a start says otherwise."""
    searched = isinstance(experiment.space.parameters.get(key), Choice)
    agreed = all(start[key] is value for start in experiment.starts()) if searched else False
    return [Narrowed(key, None, value, reason)] if agreed else []


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


if __name__ == "__main__":
    main()
