"""What a probe makes of made-up layers."""

from functools import cache
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from oialr_hpo.experiment import Experiment, load
from oialr_hpo.probing import Layer, Observation, document, narrow, narrowed, settling

BOTH_ENDS = ["search.oialr.keep_first={choices: [false, true]}", "search.oialr.keep_last={choices: [false, true]}"]


def observation(*layers: Layer, share: float = 0.25) -> Observation:
    return Observation(list(layers), share, epochs=75, seconds=60.0, training_seconds=50.0, accuracy=80.0, mlu=0.3)


def changed(experiment: Experiment, seen: Observation) -> dict[str, object]:
    return {change.key: change.spec["float"] if change.spec else change.value for change in narrow(experiment, seen)}


def test_bases_count_as_settled_from_when_they_stay_so() -> None:
    assert settling([(1, 0.9), (2, 0.96), (3, 0.94), (4, 0.95), (5, 0.99)], 20) == 0.2
    assert settling([(1, 0.96), (2, 0.94)], 20) is None
    assert settling([], 20) is None


def test_ranges_follow_from_when_layers_settle_and_what_they_use() -> None:
    experiment = load("vit_digits", [*BOTH_ENDS, "start_from=[]"])
    layers = [
        Layer("first", 0.2, 64, 64, 0.05),
        Layer("second", 0.15, 64, 20, 0.2),
        Layer("third", 0.1, 64, 16, 0.3),
        Layer("last", 0.06, 10, 4, 0.4),
    ]
    assert changed(experiment, observation(*layers)) == {
        "oialr.delay": [0.06, 0.4],  # the first to settle, and twice the last
        "oialr.cutoff": [0.0125, 0.05],  # the cut that spares every layer, and a quarter of it
        "oialr.keep_first": True,  # its rank is used in full
        "oialr.keep_last": False,  # settled first, 4 of 10 used
    }
    late = [*layers[:2], Layer("third", None, 64, 16, 0.3), Layer("last", None, 10, 4, 0.4)]
    assert changed(experiment, observation(*late, share=0.2)) == {
        "oialr.delay": [0.15, 0.6],
        "oialr.cutoff": [0.0125, 0.05],
        "oialr.keep_first": True,
        "oialr.keep_last": True,
    }


def test_what_the_experiment_starts_from_stays_inside() -> None:
    experiment = load("vit_digits", BOTH_ENDS)  # it starts from d = 1/3 and 0.17, beta = 0.1 and 0.15
    layers = [Layer(name, 0.05, 64, 64, 0.3) for name in ("first", "last")]
    changes = narrow(experiment, observation(*layers))
    assert changed(experiment, observation(*layers)) == {
        "oialr.delay": [0.05, 0.333333333],
        "oialr.cutoff": [0.075, 0.3],
    }
    after = narrowed(experiment, observation(*layers), changes)
    assert after.starts()[:2] == experiment.starts() and after.oialr == experiment.oialr
    assert after.start_from[2] == {"oialr.delay": 0.05, "oialr.cutoff": 0.15}


def test_what_the_experiment_believes_in_stays_inside() -> None:
    priors = ["search.oialr.delay={float: [0.05, 0.6], prior: 0.5}", "start_from=[]"]
    last = "search.oialr.keep_last={choices: [false, true], prior: true}"
    experiment = load("vit_digits", [*BOTH_ENDS[:1], last, *priors])
    changes = narrow(experiment, observation(*(Layer(name, 0.06, 64, 8, 0.3) for name in ("first", "last"))))
    specs = {change.key: change.spec for change in changes}
    assert specs["oialr.delay"] == {"float": [0.06, 0.5], "prior": 0.5}
    assert "oialr.keep_first" in specs and "oialr.keep_last" not in specs


def test_no_update_reaches_a_layer_before_it_has_settled() -> None:
    experiment = load("vit_digits", ["oialr.delay=0.1", "oialr.frequency=0.02", "start_from=[]"])
    layers = [Layer("first", 0.2, 64), *(Layer(f"layer {i}", 0.05, 64) for i in range(9))]
    (change,) = narrow(experiment, observation(*layers))
    assert change.key == "oialr.step_fraction" and change.spec == {"float": [0.02, 0.2]}
    # Updates at 0.12, 0.14, ... reach two layers more each time, the tenth in the fifth one, at 0.2.


@cache
def shipped(name: str) -> Experiment:
    return load(name, BOTH_ENDS)


layers = st.builds(
    Layer,
    name=st.just("layer"),
    settled=st.none() | st.floats(0.003, 0.25),
    max_rank=st.just(64),
    utilized_rank=st.none() | st.integers(1, 64),
    cutoff=st.none() | st.floats(1e-6, 1),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(layers, min_size=1, max_size=12), st.sampled_from(["vit_digits", "vit_cifar", "vgg16_cifar"]))
def test_whatever_is_seen_the_file_loads_and_lies_within_the_former_space(seen: list[Layer], name: str) -> None:
    import tempfile

    before = shipped(name)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "probed.yaml"
        observed = observation(*seen)
        file.write_text(document(before, observed, narrow(before, observed), "made by a test"))
        after = load(str(file))
    for start in after.starts():
        after.space.encode(start)
    for key, parameter in after.space.parameters.items():
        for value in parameter.extremes():
            before.space.parameters[key].check(value)
    fixed = set(before.search) - set(after.search)
    assert fixed <= {"oialr.keep_first", "oialr.keep_last"}
    assert after.starts()[: len(before.starts())] == [
        {key: value for key, value in start.items() if key not in fixed} for start in before.starts()
    ]
