"""Files that extend others, choices of any type, and what is exported: it reads back as it was."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from oialr_hpo import samplers, search
from oialr_hpo.experiment import Experiment, ExperimentError, Sampler, load, shipped
from oialr_hpo.experiment.space import Choice, Space, as_text, parse_parameter
from oialr_hpo.export import export
from oialr_hpo.report.study import derive
from oialr_hpo.runs.leaders import untuned
from oialr_hpo.runs.trial import Role

BOWL = "tests.objectives:bowl"


@pytest.fixture
def extending(tmp_path: Path) -> Any:
    """Loads a file with some lines that extends the small ViT on digits."""
    (tmp_path / "base.yaml").write_text(shipped().joinpath("vit_digits.yaml").read_text())

    def made(lines: str, *changes: str) -> Experiment:
        (tmp_path / "mine.yaml").write_text(f"extends: base.yaml\n{lines}\n")
        return load(str(tmp_path / "mine.yaml"), changes)

    return made


RANGE, LOG = "{float: [0.05, 0.5]}", "{float: [0.05, 0.5], log: true}"
CHOICES, NUMBERS = "{choices: [0.1, 0.15]}", "{choices: [0, 0.1, 0.15]}"


@pytest.mark.parametrize("above", [RANGE, LOG, CHOICES, NUMBERS])
@pytest.mark.parametrize("below", [RANGE, LOG, CHOICES, NUMBERS])
@pytest.mark.parametrize("by", ["extends", "set"])
def test_a_line_of_the_search_replaces_the_old_one_whole(
    extending: Any, tmp_path: Path, above: str, below: str, by: str
) -> None:
    (tmp_path / "middle.yaml").write_text(f"extends: base.yaml\nsearch:\n  oialr.cutoff: {below}\n")
    (tmp_path / "top.yaml").write_text(f"extends: middle.yaml\nsearch:\n  oialr.cutoff: {above}\n")
    changed = (
        load(str(tmp_path / "top.yaml"))
        if by == "extends"
        else load(str(tmp_path / "middle.yaml"), [f"search.oialr.cutoff={above}"])
    )
    assert as_text(changed.search["oialr.cutoff"]) == as_text(
        load("vit_digits", [f"search.oialr.cutoff={above}"]).search["oialr.cutoff"]
    )
    assert changed.search.keys() == load("vit_digits").search.keys()


def test_a_bound_replaces_the_old_one_whole_and_other_sections_are_merged(extending: Any, tmp_path: Path) -> None:
    (tmp_path / "bound.yaml").write_text("extends: base.yaml\nconstraints:\n  top1: {min: 50}\n  loss: {max: 2}\n")
    (tmp_path / "top.yaml").write_text("extends: bound.yaml\nconstraints:\n  top1: {max: 99}\n  loss: null\n")
    found = load(str(tmp_path / "top.yaml"))
    assert {key: (bound.min, bound.max) for key, bound in found.constraints.items()} == {"top1": (None, 99.0)}
    assert extending("training: {epochs: 3}").training.batch_size == load("vit_digits").training.batch_size
    assert extending("constraints: null").constraints == {}


@pytest.mark.parametrize("by", ["extends", "set"])
def test_null_takes_a_setting_out_of_the_search(extending: Any, by: str) -> None:
    plain = load("vit_digits")
    found = extending("search: {oialr.cutoff: null}") if by == "extends" else load(
        "vit_digits", ["search.oialr.cutoff=null"]
    )  # fmt: skip
    assert set(found.search) == set(plain.search) - {"oialr.cutoff"}
    assert found.oialr.cutoff == plain.oialr.cutoff
    assert found.starts() == [{k: v for k, v in start.items() if k != "oialr.cutoff"} for start in plain.starts()]
    assert extending("search: null").search == {} and extending("start_from: null").start_from == []
    with pytest.raises(ExperimentError, match="search.oialr.cutof: no such setting; did you mean 'oialr.cutoff'?"):
        extending("search: {oialr.cutof: null}")


@pytest.mark.parametrize(
    ("key", "own", "spec"),
    [
        ("training.weight_decay", "0.0", "{choices: [0, 0.01, 0.1]}"),
        ("training.weight_decay", "0", "{choices: [0.0, 0.01]}"),
        ("training.clip_grad_norm", "5", "{choices: [-1, 5]}"),
        ("training.clip_grad_norm", "5.0", "{int: [0, 10]}"),
        ("model.arguments.drop_rate", "0", "{choices: [0.0, 0.1]}"),
        ("model.arguments.drop_rate", "0.0", "{choices: [0, 0.1]}"),
        ("oialr.delay", "0", "{float: [0.0, 0.5]}"),
    ],
)
def test_the_files_own_number_is_among_equal_ones_of_another_type(key: str, own: str, spec: str) -> None:
    arguments = ["start_from=[{}]", f"{key}={own}", f"search.{key}={spec}"]
    (start,) = load("vit_digits", arguments).starts()
    parameter = parse_parameter(load("vit_digits", arguments).search[key])
    assert start[key] == parameter.decode(parameter.encode(start[key])) == float(own)
    if isinstance(parameter, Choice):
        assert any(start[key] is value or as_text(start[key]) == as_text(value) for value in parameter.values)


def test_choices_that_a_setting_makes_equal_are_refused() -> None:
    with pytest.raises(
        ExperimentError, match="search.training.weight_decay: 0 and 0.0 are the same for this setting; keep one"
    ):
        load("vit_digits", ["search.training.weight_decay={choices: [0, 0.0, 0.1]}", "start_from=[]"])


def test_a_true_is_no_one(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"oialr.keep_first: False is not one of the choices|valid boolean"):
        load("vit_digits", ["search.oialr.keep_first={choices: [0, 1]}"])


APART = [True, 1, 1.0, "1", "true", False, 0, 0.0, "", None, "null"]


def searched(out: Path, values: list[Any], name: str = "random", trials: int = 24) -> Any:
    """A search of one argument of the network among some values, without a network."""
    experiment = load(
        "vit_digits", ["start_from=[]", f"sampler.name={name}", f"trials={trials}", "dense_baseline=false"]
    )
    arguments = experiment.model["arguments"] | {"flavour": values[0]}
    changed = experiment.with_settings({"model.arguments": arguments})
    only = changed.model_copy(update={"search": {"model.arguments.flavour": {"choices": values}}})
    return search.run(only, out=out, objective=BOWL)


@pytest.mark.parametrize("name", ["random", "tpe", "nsga2", "evolution"])
def test_choices_equal_across_types_stay_apart(tmp_path: Path, name: str) -> None:
    run = searched(tmp_path / "run", APART, name)
    key = "model.arguments.flavour"
    ran = [as_text(trial.settings[key]) for trial in run.trials()]
    assert set(ran) <= {as_text(value) for value in APART} and len(set(ran)) > 3
    study = derive(run.trials(), run.experiment)
    assert [trial.params[key] for trial in study.trials] == ran
    assert study.trials[0].distributions[key].choices == tuple(as_text(value) for value in APART)
    exported = [load(str(path)) for path in export(run, 20, tmp_path / "out")]
    kept = {as_text(one.model["arguments"]["flavour"]) for one in exported}
    assert kept == set(ran)
    found = {as_text(trial.settings[key]) for trial in run.trials() if untuned([trial], run.experiment)}
    assert found <= {"true"}


def test_optunas_samplers_hear_which_of_equal_choices_was_tried() -> None:
    """The last of three that compare equal is best: TPE proposes it more and more."""
    space = Space({"a": Choice((True, 1, 1.0)), "b": Choice((0, False, "0"))})
    propose = samplers.make_propagator(Sampler(name="tpe"), space, samplers.Place(0, 1, 60, 0))
    known: list[Any] = []
    for number in range(60):
        one = propose(known)
        found = space.decode(one)
        one.loss = 2 * (type(found["a"]) is not float) + (found["b"] is not False)
        one.rank, one.generation = 0, number
        known.append(one)
    late = [space.decode(one) for one in known[-20:]]
    assert sum(type(found["a"]) is float for found in late) > 10
    assert sum(found["b"] is False for found in late) > 10


TEXTS = [
    "1e-3", "yes", "no", "on", "null", "~", "2024-01-01", "2024-01-01 10:00:00", "12:30:45", "0x10", "0b1", "0o7",
    "010", "1_000", "1.", ".5", ".inf", "-.inf", ".nan", "true", "False", "", " ", " a", "a ", "a\nb", "a\n\nb\n",
    "\n", "\ta", "a\rb", "ä€😀", "\x85", "\u2028\u2029", "\ufeff", "\x00", "\x7f", "a: b", "# a", "a #b", "- a",
    "? a", "&a", "*a", "!a", "!!int 3", "%a", "@a", "`a", "'", '"', "\\", "{a}", "[a]", "<<", "=", "|", ">", "---",
    "...", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "1e400",
    "+1", "-0", "0.1e1", "1e5", "١٢",
]  # fmt: skip


def test_what_is_exported_reads_back_whatever_its_text(tmp_path: Path) -> None:
    values = [*TEXTS, 1e-300, -0.0, 1e22, 12345678901234567890, -3, 0.1, None, True]
    run = searched(tmp_path / "a run\n# with: lines", values, trials=3)
    for trial in run.trials():
        assert trial.role is Role.PROPOSAL
    untuned = run.experiment
    assert [as_text(value) for value in untuned.search["model.arguments.flavour"]["choices"]] == [
        as_text(value) for value in values
    ]
    for path in export(run, 3, tmp_path / "out"):
        text = path.read_text()
        assert all(line.startswith("# ") for line in text.splitlines()[:6])
        one = load(str(path))
        assert as_text(one.model["arguments"]["flavour"]) in {as_text(value) for value in values}
        assert one.evidence and as_text(one.evidence["untuned"]) == as_text({"model.arguments.flavour": values[0]})


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8),
    st.sampled_from(TEXTS),
)  # fmt: skip
arguments = st.dictionaries(
    st.one_of(st.text(max_size=6), st.sampled_from(TEXTS)),
    st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=4),
    max_size=4,
)


@pytest.fixture(scope="module")
def digits() -> Experiment:
    return load("vit_digits").fixed()


@examples(max_examples=150)
@given(more=arguments)
def test_any_arguments_are_written_and_read_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, digits: Experiment, more: dict[str, Any]
) -> None:
    from oialr_hpo.experiment import strict_yaml

    experiment = digits.with_settings({"model.arguments": digits.model["arguments"] | more})
    file = tmp_path_factory.getbasetemp() / "written.yaml"
    file.write_text(strict_yaml.dump(experiment.dump()), encoding="utf-8")
    assert as_text(load(str(file)).dump()) == as_text(experiment.dump())


def test_numbers_of_numpy_are_written_and_what_is_no_plain_value_is_refused(tmp_path: Path) -> None:
    experiment = load("vit_digits", ["trials=1"])
    kept = experiment.with_settings({"model.arguments.drop_rate": np.float64(0.25)})
    run = search.run(kept, out=tmp_path / "run", objective=BOWL)
    assert as_text(run.experiment.model["arguments"]["drop_rate"]) == "0.25"
    for value in (np.zeros(3), {1, 2}, Path("a"), np.int64(3)):
        with pytest.raises(ExperimentError, match=r"model.arguments.drop_rate: \w+ is no plain value; give numbers"):
            experiment.with_settings({"model.arguments.drop_rate": value})
