"""What a trial of a comparison does that reports settings: it is trained, and measured on the test split."""

from collections.abc import Generator
from typing import Any

from oialr_hpo.experiment import Experiment
from oialr_hpo.training.objective import evaluate


def on_test_split(experiment: Experiment, **arguments: Any) -> Generator[dict[str, Any], Any, None]:
    """An objective: tested once, at the end; only that record is scored."""
    records = evaluate(experiment, **arguments | {"split": "test"})
    measured = {*experiment.score.metrics, *experiment.constraints}
    record, answer = None, None
    try:
        while True:
            record = records.send(answer)
            answer = yield {name: value for name, value in record.items() if name not in measured}
    except StopIteration:
        if record and answer is None:
            yield record
