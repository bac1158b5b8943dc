"""Hyperparameter search around OIALR: Orthogonality-Informed Adaptive Low-Rank training.

What others may import is listed here and in the `__all__` of the rooms (`oialr_hpo.oialr`, `.tasks`, `.samplers` and
their like): typed, and kept as it is. Everything else is private, whatever it is called, and may change in any version.
`import oialr_hpo` loads none of them: a name is loaded when it is first used, and torch with those that need it.

    import oialr_hpo

    run = oialr_hpo.search.run("vit_digits", changes=["trials=8"], jobs=2)   # a RunDirectory
    print(min(trial.score for trial in run.trials() if trial.candidate))
    network = oialr_hpo.load("best.safetensors")                             # what `train --weights` wrote
    oialr = oialr_hpo.OIALR(model, optimizer, delay=2500, frequency=500)     # in a training loop of your own
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oialr_hpo import experiment, search
    from oialr_hpo.experiment import Experiment
    from oialr_hpo.mistake import Mistake
    from oialr_hpo.oialr import OIALR, load_low_rank, merge
    from oialr_hpo.runs import RunDirectory, State, Trial
    from oialr_hpo.tasks import Task, TaskSettings
    from oialr_hpo.training.loading import load

__all__ = [
    "OIALR",
    "Experiment",
    "Mistake",
    "RunDirectory",
    "State",
    "Task",
    "TaskSettings",
    "Trial",
    "__version__",
    "experiment",
    "load",
    "load_low_rank",
    "merge",
    "search",
]

__version__: str
"""Of the installed package."""

_HOMES = {
    "oialr_hpo.experiment": ("Experiment",),
    "oialr_hpo.mistake": ("Mistake",),
    "oialr_hpo.oialr": ("OIALR", "load_low_rank", "merge"),
    "oialr_hpo.runs": ("RunDirectory", "State", "Trial"),
    "oialr_hpo.tasks": ("Task", "TaskSettings"),
    "oialr_hpo.training.loading": ("load",),
}


def __getattr__(name: str) -> Any:
    """A public name or one of the modules that hold them, on first use."""
    from importlib import import_module

    if name == "__version__":
        return import_module("importlib.metadata").version(__name__)
    if name in ("experiment", "search"):
        return import_module(f"{__name__}.{name}")
    for home, names in _HOMES.items():
        if name in names:
            found = globals()[name] = getattr(import_module(home), name)
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
