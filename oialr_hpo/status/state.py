"""How a search stands, for programs."""

import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.ranking import Standing, front
from oialr_hpo.runs.summary import current
from oialr_hpo.runs.trial import State, Trial


def status(run: RunDirectory) -> dict[str, Any]:
    """Trials by state, the best so far, time used, and the share of worker time spent on trials."""
    alive = run.alive
    trials, usage = current(run, alive), run.usage()
    states = Counter(trial.state for trial in trials)
    winners, several_goals = front(trials), len(run.experiment.score.goals) > 1
    return {
        "running": alive,
        "trials": {state.value: states[state] for state in State},
        "goals": {goal.metric: goal.direction for goal in run.experiment.score.goals},
        "budget": run.experiment.trials,
        "workers": run.environment["workers"],
        "seconds": usage.elapsed,
        "utilization": usage.utilization,
        "best": _best(winners[0]) if winners and not several_goals else None,
        "running_trials": running_trials(run, trials),
        "pareto_front": [_best(standing) for standing in winners] if several_goals else None,
    }


def running_trials(run: RunDirectory, trials: Iterable[Trial]) -> list[dict[str, Any]]:
    """Each trial that is being trained: how far it is, and the scored metrics of its last epoch."""
    experiment = run.experiment
    metrics = dict.fromkeys((*experiment.score.metrics, "trainable_percent"))
    found = []
    for trial in trials:
        if trial.state is State.RUNNING:
            last = trial.epochs[-1] if trial.epochs else {}
            epoch = last.get("epoch", 0)
            epochs = max(epoch, experiment.epochs(trial.settings))  # an own objective may go on
            seconds = max(0.0, time.time() - trial.started)
            found.append(
                {
                    "number": trial.number,
                    "role": trial.role.value,
                    "worker": trial.worker,
                    "epoch": epoch,
                    "epochs": epochs,
                    **{name: last.get(name) for name in metrics},
                    "seconds": seconds,
                    "seconds_left": last.get("seconds", seconds) / epoch * (epochs - epoch) if epoch else None,
                }
            )
    return found


def _best(standing: Standing) -> dict[str, Any]:
    trial = standing.trial
    return {
        "number": trial.number,
        "score": standing.scores[0],
        "scores": standing.scores,
        "deviation": standing.deviation,
        "trials": [each.number for each in standing.counted],
        "settings": trial.settings,
        "metrics": trial.metrics,
        "seconds": trial.seconds,
        "setup_seconds": trial.setup_seconds,
    }
