"""A search space as Optuna sees it."""

from typing import TYPE_CHECKING

from oialr_hpo.experiment.space import Choice, FloatRange, Parameter, Space, Steps, Value

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial


def labelled(space: Space) -> Space:
    """Each gene's own values with labels for choices, as Optuna sees them."""
    parameters = space.parameters.items()
    return Space({key: Choice(each.labels) if isinstance(each, Choice) else each for key, each in parameters})


def distribution(parameter: Parameter) -> "BaseDistribution":
    """Optuna's counterpart of a line of the search space."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(parameter, Choice):
        return CategoricalDistribution(parameter.labels)
    if isinstance(parameter, Steps) and parameter.whole:
        return IntDistribution(int(parameter.low), int(parameter.high), step=int(parameter.step))
    if isinstance(parameter, Steps):
        return FloatDistribution(parameter.low, parameter.high, step=parameter.step)
    if isinstance(parameter, FloatRange):
        return FloatDistribution(parameter.low, parameter.high, log=parameter.log)
    return IntDistribution(parameter.low, parameter.high, log=parameter.log)


def suggest(trial: "Trial", key: str, asked: "BaseDistribution") -> Value:
    """What a trial of Optuna tries for one more setting."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(asked, CategoricalDistribution):
        return trial.suggest_categorical(key, asked.choices)
    if isinstance(asked, FloatDistribution):
        return trial.suggest_float(key, asked.low, asked.high, step=asked.step, log=asked.log)
    assert isinstance(asked, IntDistribution)
    return trial.suggest_int(key, asked.low, asked.high, step=asked.step, log=asked.log)
