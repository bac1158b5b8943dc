"""The best settings of a search as experiment files, each with the evidence for it."""

import glob
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from oialr_hpo import experiment as experiments
from oialr_hpo.experiment import OF_THE_SEARCH, Experiment, ExperimentError, strict_yaml
from oialr_hpo.experiment.metrics import METRICS
from oialr_hpo.experiment.space import as_text
from oialr_hpo.files import write_whole
from oialr_hpo.mistake import escaped
from oialr_hpo.runs import layers, weights
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.files import RunDirectoryError
from oialr_hpo.runs.ranking import Standing, best, pareto_front, standings
from oialr_hpo.runs.trial import Role, Trial


@dataclass(frozen=True)
class _Read:
    """What a run directory says, read once for all that is written of it."""

    run: RunDirectory

    @cached_property
    def trials(self) -> list[Trial]:
        return self.run.trials()

    @cached_property
    def experiment(self) -> Experiment:
        return self.run.experiment

    @cached_property
    def environment(self) -> dict[str, Any]:
        return self.run.environment

    @cached_property
    def _repeated(self) -> dict[str, Standing]:
        return {each.key: each for each in standings(self.trials) if len(each.trials) > 1}

    def repeated(self, trial: Trial) -> Standing | None:
        """How the settings of a trial stand, where they were tried more than once."""
        return self._repeated.get(as_text(trial.settings))


def export(run: RunDirectory, top: int | None = 1, out: Path | None = None) -> list[Path]:
    """Write the `top` best trials of a search (None: its Pareto front) as experiment files, best first.

    Raises:
        RunDirectoryError: the search has no trial to export, `out` cannot be written, or would lose a file that another
            search or the user wrote there.
    """
    read = _Read(run)
    winners = pareto_front(read.trials) if top is None else best(read.trials, top)
    if not winners:
        infeasible = sum(trial.violation > 0 for trial in read.trials)
        why = f"; {infeasible} complete ones break the constraints" if infeasible else ""
        raise RunDirectoryError(f"{run.path} has no complete trial to export{why}; --resume it with more --trials")
    return _write(read, {f"{place}": trial for place, trial in enumerate(winners, 1)}, out)


def export_trials(run: RunDirectory, numbers: Iterable[int], out: Path | None = None) -> list[Path]:
    """Write trials by their numbers as experiment files, the dense one too.

    Raises:
        RunDirectoryError: see `find_trial` and `export`.
    """
    read = _Read(run)
    return _write(read, {f"trial-{number}": _find(read, number) for number in numbers}, out)


def find_trial(run: RunDirectory, number: int | None) -> Trial:
    """A trial that has a score, by its number; None: the best.

    Raises:
        RunDirectoryError: there is none.
    """
    return _find(_Read(run), number)


def _find(read: _Read, number: int | None) -> Trial:
    path, trials = read.run.path, read.trials
    if number is None:
        if winners := best(trials):
            return winners[0]
        raise RunDirectoryError(f"{path} has no complete trial; name one that was stopped early by its number")
    for trial in trials:
        if trial.number == number and trial.score is not None:
            return trial
        if trial.number == number:
            raise RunDirectoryError(f"{path}: trial {number} is {trial.state.value} and has no score")
    known = f"its trials are 0 to {trials[-1].number}" if trials else "no trial has begun"
    raise RunDirectoryError(f"{path} has no trial {number}; {known}")


def content(run: RunDirectory, trial: Trial) -> dict[str, Any]:
    """What the file of a trial says."""
    return _content(_Read(run), trial)


def _content(read: _Read, trial: Trial) -> dict[str, Any]:
    tuned = _tuned(read, trial).model_copy(update={"evidence": _evidence(read, trial)})
    return {key: value for key, value in _own(tuned).items() if key not in OF_THE_SEARCH}


def remove_earlier(run: RunDirectory, files: Sequence[Path]) -> list[Path]:
    """Remove what an earlier export of the search wrote beside these files; what was changed since stays.

    Returns:
        what was removed.
    """
    beside = sorted(files[0].parent.glob(f"{glob.escape(run.name)}-[0-9]*.yaml"))
    read = _Read(run)
    removed = [file for file in beside if file not in files and _wrote(read, file)]
    removed += [each for each in map(weights.beside, removed) if _came_from(each)]
    for file in removed:
        file.unlink()
    return removed


def _wrote(read: _Read, file: Path) -> bool:
    """Whether a file is an export of this search, as it was written."""
    try:
        found = experiments.load(str(file))
    except ExperimentError:
        return False
    evidence = found.evidence or {}
    trial = next((trial for trial in read.trials if trial.number == evidence.get("trial")), None)
    if trial is None:
        return False
    return _own(found) == _own(_tuned(read, trial).model_copy(update={"evidence": found.evidence}))


def _tuned(read: _Read, trial: Trial) -> Experiment:
    dense = {"method": "dense"} if trial.role is Role.DENSE else {}
    return read.experiment.trial(trial.settings | dense).fixed().model_copy(update={"seed": trial.seed})


def _own(experiment: Experiment) -> dict[str, Any]:
    """An experiment's content without the sections of other methods."""
    others = experiment.other_methods
    return {key: value for key, value in experiment.dump().items() if key not in others}


def _write(read: _Read, chosen: Mapping[str, Trial], out: Path | None) -> list[Path]:
    """Write these trials, each into a file that is called after the run and its key."""
    run = read.run
    out = out or run.path / "best"
    files = {out / f"{run.name}-{name}.yaml": trial for name, trial in chosen.items()}
    try:
        for file, trial in files.items():
            if file.exists() and not _wrote(read, file):
                why = "is no export of this search, or was changed since"
                raise RunDirectoryError(f"{file} {why}; move it away, or choose another --out")
            network = weights.beside(file)
            if run.weights(trial.number).is_file() and network.exists() and not _came_from(network):
                raise RunDirectoryError(f"{network} is no export of a search; move it away, or choose another --out")
        out.mkdir(parents=True, exist_ok=True)
        for file, trial in files.items():
            said = _content(read, trial)
            write_whole(file, f"{_heading(read, trial, file)}\n{strict_yaml.dump(said)}")
            _write_weights(run, trial, weights.beside(file), said)
    except OSError as error:
        raise RunDirectoryError(f"{out} cannot be written: {error.strerror}; choose another --out") from None
    return [*files]


def _write_weights(run: RunDirectory, trial: Trial, network: Path, said: Mapping[str, Any]) -> None:
    """Put the network of a trial beside its file, where the search kept it; that of another trial is removed.

    Args:
        said: in the file.

    Raises:
        RunDirectoryError: what the search kept is damaged.
    """
    kept, origin = run.weights(trial.number), {"run": run.name, "trial": trial.number}
    if kept.is_file():
        try:
            weights.copy(kept, network, {"experiment": said, "search": origin})
        except ValueError:
            raise RunDirectoryError(f"{kept} is damaged; remove it") from None
    elif _came_from(network) not in (None, origin):
        network.unlink()


def _came_from(network: Path) -> dict[str, Any] | None:
    """The run and trial of weights that an export wrote; None: others did, or there are none."""
    return weights.described(network).get("search")


def _evidence(read: _Read, trial: Trial) -> dict[str, Any]:
    experiment, environment, repeated = read.experiment, read.environment, read.repeated(trial)
    fresh = {} if repeated is None else {"mean_score": repeated.scores[0], "deviation": repeated.deviation}
    numbers = {} if repeated is None else {"mean_of_trials": [each.number for each in repeated.counted]}
    return {
        "score": trial.score,
        **fresh,
        **numbers,
        "metrics": {name: value for name, value in trial.metrics.items() if not isinstance(value, dict)},
        layers.kind(trial.metrics): layers.kept(trial.metrics),
        "split": "validation",
        "trial": trial.number,
        "trials": len([other for other in read.trials if other.finished]),
        "seed": trial.seed,
        "threads": trial.threads,
        "searched": list(trial.settings),
        "untuned": {key: experiment.value(key) for key in experiment.search},
        "command": environment["command"],
        "commit": environment.get("commit"),
        "packages": environment["packages"],
    }


def _heading(read: _Read, trial: Trial, path: Path) -> str:
    run, metrics, environment = read.run, trial.metrics, read.environment
    shown = [metric.name for metric in METRICS.values() if "export" in metric.shown]
    figures = ", ".join(f"{name} {metrics[name]:.4g}" for name in shown if name in metrics)
    if "trainable_parameters" in metrics:
        figures += f", {metrics['trainable_parameters']:,} of {metrics['parameters']:,} parameters trained"
    device = metrics.get("device", "unknown device")
    packages = ", ".join(f"{name} {number}" for name, number in environment["packages"].items())
    scores = " / ".join(f"{score:.6g}" for score in trial.scores)
    mean = ""
    if repeated := read.repeated(trial):
        spread = "" if repeated.deviation is None else f" ± {repeated.deviation:.2g}"
        means = " / ".join(f"{score:.6g}" for score in repeated.scores)
        mean = f"; mean of {len(repeated.counted)} trials {means}{spread}"
    lines = [
        f"Trial {trial.number} of the search {run.name}: score {scores} on the validation split{mean}",
        figures,
        f"data {read.experiment.subject}, seed {trial.seed}, {device}, "
        f"{trial.threads} CPU thread(s), trained in {trial.seconds:.1f} s",
        f"commit {environment.get('commit')}; python {environment['python']}, {packages}",
        f"found by: {environment['command']}",
        "again:    python -m oialr_hpo.train " + shlex.quote(str(path)),
    ]
    if run.weights(trial.number).is_file():
        lines.append(f"network:  oialr_hpo.load({str(path)!r}), in {weights.beside(path).name}")
    return "\n".join(f"# {escaped(line)}" for line in lines)
