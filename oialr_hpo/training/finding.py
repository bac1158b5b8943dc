"""Before a search that needs no rehearsal: a training process finds the objective, and tells its devices."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from oialr_hpo.experiment import OBJECTIVE, Experiment
from oialr_hpo.experiment.objective import load_objective
from oialr_hpo.extension import resolve


def find(experiment: Experiment, *, given: Iterable[str] | None, **_: Any) -> Iterator[dict[str, Any]]:
    """Find the objective of an experiment; one of the user's may do without torch, and without devices then.

    Args:
        given: what the objective is to take by name; None: it has been looked at, and trials will say what is wrong.

    Yields:
        a record of the devices that there are, or an empty one.

    Raises:
        Mistake: see `load_objective`.
    """
    if given is None:
        with suppress(LookupError):
            resolve(experiment.objective)
    else:
        load_objective(experiment.objective, given)
    if experiment.objective != OBJECTIVE and "torch" not in sys.modules:
        yield {}
        return
    from oialr_hpo.training import devices

    yield {"device": devices.of_this_process()}
