"""Lines of `search` that say where the best value is believed to lie."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oialr_hpo import search
from oialr_hpo.experiment import ExperimentError, load
from oialr_hpo.experiment.space import Space, parse_line

LINES: dict[str, dict[str, Any]] = {
    "lr": {"float": [1e-4, 1e-1], "log": True, "prior": 1e-3},
    "depth": {"int": [1, 9], "prior": 3},
    "width": {"int": [16, 64], "step": 16, "prior": 48},
    "name": {"choices": ["cosine", None, "own"], "prior": None},
    "k": {"float": [0.1, 2.0], "when": {"name": "cosine"}, "prior": 1.5},
    "min_lr": {"float": [1e-3, 1.0], "log": True, "times": "lr", "prior": 0.1},
    "betas": {"choices": [[0.9, 0.99], [0.9, 0.999]]},
}
FILE = {key: 1.0 for key in LINES} | {"lr": 1e-3}


def space(lines: dict[str, dict[str, Any]]) -> Space:
    return Space({key: parse_line(spec) for key, spec in lines.items()}, FILE.__getitem__)


BELIEVING = space(LINES)
PLAIN = space({key: {name: value for name, value in spec.items() if name != "prior"} for key, spec in LINES.items()})


@given(st.fixed_dictionaries({key: st.floats(0, 1) for key in LINES}))
def test_a_prior_changes_no_point(genes: dict[str, float]) -> None:
    settings = PLAIN.decode(genes)
    assert BELIEVING.decode(genes) == settings and BELIEVING.encode(settings) == PLAIN.encode(settings)


def test_a_line_keeps_its_prior() -> None:
    assert BELIEVING.spec() == LINES and not PLAIN.priors
    assert BELIEVING.priors.keys() == LINES.keys() - {"betas"}
    for key, gene in BELIEVING.priors.items():
        assert BELIEVING.parameters[key].decode(gene) == pytest.approx(LINES[key]["prior"])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{float: [0.1, 0.6], prior: 0.7}", "prior: 0.7 lies outside the range [0.1, 0.6]; name one of the values"),
        ("{float: [0.1, 0.6], prior: high}", "prior: 'high' is not a number in [0.1, 0.6]"),
        ("{float: [0.1, 0.6], prior: null}", "prior: None is not a number"),
        ("{float: [0.1, 0.6], step: 0.1, prior: 0.25}", "prior: 0.25 lies between the steps"),
        ("{choices: [0.1, 0.2], prior: 0.3}", "prior: 0.3 is not one of the choices [0.1, 0.2]"),
    ],
)
def test_one_that_the_line_does_not_admit_is_refused(spec: str, message: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        load("vit_digits", [f"search.oialr.cutoff={spec}", "start_from=[]"])
    assert "search.oialr.cutoff: " in str(caught.value) and message in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) <= 300


@pytest.mark.parametrize("sampler", ["evolution", "tpe"])
def test_a_search_keeps_it_and_may_change_it_on_resume(tmp_path: Path, sampler: str) -> None:
    changes = ["dense_baseline=false", "start_from=[]", f"sampler.name={sampler}"]
    prior = "search.oialr.cutoff={float: [0.01, 0.6], prior: %s}"
    arguments: dict[str, Any] = {"out": tmp_path / "run", "objective": "tests.objectives:bowl"}
    run = search.run("vit_digits", changes=[*changes, prior % 0.1, "trials=4"], **arguments)
    assert run.experiment.search["oialr.cutoff"]["prior"] == 0.1
    run = search.run("vit_digits", changes=[*changes, prior % 0.5, "trials=8"], resume=True, **arguments)
    assert run.experiment.search["oialr.cutoff"]["prior"] == 0.5 and len(run.trials()) == 8
