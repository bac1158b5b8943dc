import time

from oialr_hpo.runs.time_left import time_left


def test_the_time_left_counts_what_runs_as_half_done() -> None:
    assert time_left([10.0] * 4, total=24, workers=4) == 10 * (20 - 2) / 4
    assert time_left([10.0] * 22, total=24, workers=4) == 10 * (2 - 1) / 2
    assert time_left([10.0] * 24, total=24, workers=4) is None
    assert time_left([], total=24, workers=4) is None
    assert time_left([10.0] * 4, total=24, workers=4, deadline=time.time() + 1000) == 10 * (20 - 2) / 4
    assert 0 < time_left([10.0] * 4, total=24, workers=4, deadline=time.time() + 7) <= 7  # type: ignore[operator]
