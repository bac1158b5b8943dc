"""What moves the weights: the optimizers and the schedules of the learning rate, by their names.

Either may be one's own, named as `package.module:Name`. Nothing here imports torch before it trains.
"""

from oialr_hpo.optimization.optimizers import check_optimizer_name, create_optimizer, load_optimizer
from oialr_hpo.optimization.schedules import Schedule, load_rate, make_schedule, rates

__all__ = [
    "Schedule",
    "check_optimizer_name",
    "create_optimizer",
    "load_optimizer",
    "load_rate",
    "make_schedule",
    "rates",
]
