"""A search space as Optuna sees it."""

from typing import TYPE_CHECKING

from oialr_hpo.experiment.space import Choice, FloatRange, Parameter, Space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def labelled(space: Space) -> Space:
    """The same space with labels for choices, as Optuna sees it."""
    labels = {key: Choice(each.labels) for key, each in space.parameters.items() if isinstance(each, Choice)}
    return Space(space.parameters | labels)


def distribution(parameter: Parameter) -> "BaseDistribution":
    """Optuna's counterpart of a line of the search space."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(parameter, Choice):
        return CategoricalDistribution(parameter.labels)
    if isinstance(parameter, FloatRange):
        return FloatDistribution(parameter.low, parameter.high, log=parameter.log)
    return IntDistribution(parameter.low, parameter.high, log=parameter.log)
