"""Settings of the training loop: optimizers, groups of parameters, accumulation, averages, float16."""

import gc
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp

from oialr_hpo.experiment import ExperimentError, load
from oialr_hpo.methods import Method
from oialr_hpo.oialr import OIALR, load_low_rank
from oialr_hpo.optimization import make_schedule
from oialr_hpo.training import devices, loop
from oialr_hpo.training.loop import Diverged
from oialr_hpo.training.objective import build_task, evaluate
from oialr_hpo.training.optimizer import make_optimizer
from oialr_hpo.training.replica import Replica
from tests.tiny_task import tiny

CPU = torch.device("cpu")
ALL: dict[str, Any] = {
    "training.accumulation_steps": 2,
    "training.clip_grad_norm": 1.0,
    "training.decay_bias_and_norm": False,
    "training.ema_decay": 0.7,
    "training.layer_decay": 0.8,
    "training.weight_decay": 0.1,
}
FLOAT16 = {"training.precision": "float16", "data.scale": 0.5}


def numbers(records: Any) -> list[dict[str, Any]]:
    timed = ("seconds", "setup_seconds", "data_wait", "step_milliseconds")
    return [{key: value for key, value in record.items() if key not in timed} for record in records]


@pytest.mark.parametrize("epoch", [1, 2, 3])  # dense, low-rank, after cuts
@pytest.mark.parametrize(
    "settings",
    [
        {"training.optimizer": "lamb"},
        {"training.optimizer": "muon"},
        {"training.optimizer": "lookahead_radam"},
        {"training.optimizer": "adafactor"},
        {"training.optimizer": "sgd", "training.optimizer_arguments": {"nesterov": True}},
        {"training.accumulation_steps": 4, "oialr.delay": 3},
        {"training.optimizer": "tests.own_optimization:SignDescent", "schedule.name": "tests.own_optimization:falling"},
        {"training.ema_decay": 0.7},
        FLOAT16,
        ALL,
        ALL | FLOAT16,
    ],
    ids=lambda settings: " ".join(str(value) for value in settings.values()),
)
def test_an_interrupted_run_goes_on_to_the_same_numbers(settings: dict[str, Any], epoch: int, tmp_path: Path) -> None:
    experiment = tiny(**settings | {"score.epoch": "best"})
    unbroken = numbers(evaluate(experiment, seed=3, split="test"))
    assert unbroken[0]["ranks"] == {} != unbroken[-2]["ranks"]
    checkpoint = tmp_path / "checkpoint.pt"
    first = evaluate(experiment, seed=3, split="test", checkpoint=checkpoint)
    records = [next(first) for _ in range(epoch)]
    with pytest.raises(StopIteration):
        first.send("stop")
    resumed = evaluate(experiment, seed=3, split="test", checkpoint=checkpoint)
    assert numbers([*records, *resumed]) == unbroken


def test_a_delay_beyond_the_run_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    within, beyond = ([*evaluate(tiny(**{"oialr.delay": delay}), seed=0)] for delay in (24, 25))
    assert within[-1]["ranks"] and not beyond[-1]["ranks"]
    said = "oialr.delay ends at step 25, the run after 24: the network gets no smaller; shorten the delay"
    assert capsys.readouterr().err == f"warning: {said}, or give it as a fraction of the run\n"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("training.optimizer=admw", "neither torch nor timm has an optimizer 'admw'; did you mean 'adamw'"),
        ("training.optimizer=AdamW", "did you mean 'adamw'"),
        ("training.optimizer=lookahead_x", "neither torch nor timm has an optimizer 'lookahead_x'"),
        ("training.optimizer=adahessian", "neither torch nor timm has an optimizer 'adahessian'"),
        ("training.optimizer_arguments={lr: 1}", "training.optimizer_arguments: lr is set as schedule.lr"),
        ("training.layer_decay=1.5", "training.layer_decay: input should be less than or equal to 1"),
        ("training.ema_decay=1", "training.ema_decay: input should be less than 1"),
        ("training.accumulation_steps=0", "training.accumulation_steps"),
        ("training.precision=float8", "training.precision"),
        ("search.training.optimizer={choices: [adamw, lino]}", "did you mean 'lion'"),
    ],
)
def test_mistakes_are_found_with_the_file(change: str, word: str) -> None:
    with pytest.raises(ExperimentError, match=word) as error:
        load("vit_digits", [change])
    assert "\n" not in str(error.value)


def test_what_only_the_network_or_the_optimizer_knows_is_one_line() -> None:
    for settings, word in (
        ({"training.optimizer_arguments": {"beta": 1}}, "training.optimizer_arguments: adamw: .*'beta'"),
        ({"training.optimizer_arguments": {"betas": [2, 3]}}, "training.optimizer_arguments: adamw: Invalid beta"),
        ({"training.optimizer": "lamb", "training.optimizer_arguments": {"x": 1}}, "arguments: lamb: .*'x'"),
        ({"training.layer_decay": 0.5, "model.tells_layers": False}, "layer_decay: Network does not tell its layers"),
    ):
        with pytest.raises(ValueError, match=word):
            next(evaluate(tiny(**settings), seed=0))


def test_all_of_them_can_be_searched() -> None:
    keys = [key for key in (*ALL, "training.optimizer", "training.precision", "training.momentum")]
    searched = {key: "{choices: [adamw, lamb]}" for key in keys if key.endswith("optimizer")}
    searched |= {key: "{choices: [float32, float16]}" for key in keys if key.endswith("precision")}
    searched |= {key: "{float: [0.1, 0.9]}" for key in keys if key.endswith(("decay", "momentum", "norm"))}
    searched |= {"training.accumulation_steps": "{int: [1, 4]}"}
    searched |= {"training.decay_bias_and_norm": "{choices: [false, true]}"}
    experiment = load("vit_digits", [f"search.{key}={spec}" for key, spec in searched.items()] + ["start_from=[]"])
    assert set(keys) <= set(experiment.search)


@pytest.mark.parametrize("method", ["dense", "oialr"])
def test_accumulated_batches_make_the_step_of_a_batch_as_large(method: str) -> None:
    changes = {"method": method, "model.dropout": 0.0, "model.batch_norm": False, "oialr.cutoff": 0.0}
    whole = list(evaluate(tiny(**changes), seed=0))
    joined = list(evaluate(tiny(**changes, **{"training.batch_size": 8, "training.accumulation_steps": 2}), seed=0))
    for one, other in zip(whole, joined, strict=True):
        assert one["step"] == other["step"] and one["ranks"] == other["ranks"]
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-3)
        assert one["mse"] == pytest.approx(other["mse"], rel=1e-3)


def test_the_last_step_of_an_epoch_takes_the_batches_that_are_left() -> None:
    settings = {"data.samples": 88, "training.batch_size": 8, "training.accumulation_steps": 3, "oialr.delay": 8}
    records = list(evaluate(tiny(**settings), seed=0))
    assert [record["step"] for record in records] == [4, 8, 12, 16]
    assert [bool(record["ranks"]) for record in records] == [False, True, True, True]


def test_biases_norms_and_exempt_parameters_do_not_decay_and_sigma_does() -> None:
    experiment = tiny(**{"training.decay_bias_and_norm": False, "training.weight_decay": 0.1})
    for change in ({}, {"training.layer_decay": 0.5}, {"training.optimizer": "lamb"}):
        changed = experiment.with_settings(change)
        model = build_task(changed, seed=0, device=CPU, data_dir=None).build_model()
        optimizer = make_optimizer(model, changed.training, 1e-3)

        def decayed(model: Any = model, optimizer: Any = optimizer) -> dict[str, float]:
            names = {parameter: name for name, parameter in model.named_parameters()}
            return {names[p]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}

        layers = ("stem", "blocks.0", "blocks.1", "head")
        free = {**{f"{name}.bias": 0.0 for name in (*layers, "norm")}, "norm.weight": 0.0, "scale": 0.0}
        assert decayed() == free | {f"{name}.weight": 0.1 for name in layers}
        OIALR(model, optimizer, delay=0, frequency=1)
        assert decayed() == free | {f"{name}.sigma": 0.1 for name in layers}
    everything = experiment.with_settings({"training.decay_bias_and_norm": True})
    optimizer = make_optimizer(model, everything.training, 1e-3)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.1}


@pytest.mark.parametrize("schedule", ["cosine", "halving"])
def test_layers_nearer_to_the_input_learn_more_slowly(schedule: str) -> None:
    experiment = tiny(**{"training.layer_decay": 0.5, "schedule.name": schedule, "training.weight_decay": 0.1})
    model: Any = build_task(experiment, seed=0, device=CPU, data_dir=None).build_model()
    optimizer = make_optimizer(model, experiment.training, 0.01)
    set_rate = make_schedule(experiment.schedule, optimizer, 24, 6)
    OIALR(model, optimizer, delay=0, frequency=1)
    set_rate(0)
    rates = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    layers = (model.stem, model.blocks[0], model.blocks[1], model.head)
    assert [rates[layer.sigma] for layer in layers] == pytest.approx([0.00125, 0.0025, 0.005, 0.01])
    assert [rates[layer.bias] for layer in layers] == pytest.approx([0.00125, 0.0025, 0.005, 0.01])
    records = list(evaluate(experiment, seed=0))
    assert records[0]["lr"] == max(record["lr"] for record in records) > 0.005


@pytest.mark.parametrize("method", ["dense", "oialr"])
def test_the_average_of_the_weights_is_what_is_measured(method: str, tmp_path: Path) -> None:
    """With a step an epoch, an epoch's mark is that of its step; the first block is square: nothing is cut off."""
    changes = {"method": method, "oialr.delay": 3, "oialr.cutoff": 0.0, "oialr.frequency": 1}
    changes |= {"training.batch_size": 96, "training.epochs": 8, "schedule.lr": 0.05}
    marks = [record["mark"] for record in evaluate(tiny(**changes), seed=0)]
    averaged = tiny(**changes, **{"training.ema_decay": 0.6})
    file = tmp_path / "weights.safetensors"
    records = list(evaluate(averaged, seed=0, split="test", weights=file))
    expected = marks[0]
    for mark, record in zip(marks, records, strict=True):
        expected = 0.6 * expected + 0.4 * mark
        if record is records[-1]:
            assert record["mark"] == pytest.approx(expected, rel=2e-5)
    assert expected != pytest.approx(marks[-1], rel=1e-4)

    from safetensors.torch import load_file

    task = build_task(averaged, seed=0, device=CPU, data_dir=None, split="test")
    kept = load_low_rank(task.build_model(), load_file(file)).eval()
    assert task.evaluate(kept, "test")["mark"] == pytest.approx(expected, rel=2e-5)


def test_steps_with_infinite_gradients_are_not_counted() -> None:
    """A loss so large that float16 holds its gradients only once they are scaled down several times."""
    settings = {"training.precision": "float16", "data.scale": 100.0, "training.optimizer": "adamw"}
    for change in ({}, {"training.optimizer": "lamb"}, {"training.clip_grad_norm": 1.0}, {"method": "dense"}):
        records = list(evaluate(tiny(**settings | change), seed=0))
        skipped = 24 - records[-1]["step"]
        assert 0 < skipped < 12
        assert [record["step"] for record in records] == [6 * n - skipped for n in (1, 2, 3, 4)]
        assert records[-1]["mse"] < records[0]["mse"]
        if "method" not in change:
            assert [bool(record["ranks"]) for record in records] == [record["step"] >= 8 for record in records]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_attention_in_low_precision_is_made_of_products_on_a_cpu(precision: str) -> None:
    fused = torch.backends.cuda.flash_sdp_enabled()
    with devices.autocast(torch.device("cpu"), precision):
        assert torch.get_autocast_dtype("cpu") == getattr(torch, precision)
        assert not torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.cuda.flash_sdp_enabled() == fused and not torch.is_autocast_enabled("cpu")


def test_gradients_that_stay_infinite_end_the_training() -> None:
    with pytest.raises(Diverged, match="float16 cannot hold the gradients in epoch 3; use bfloat16"):
        list(evaluate(tiny(**{"training.precision": "float16", "data.scale": 1e30}), seed=0))


NO_NOISE = {"model.dropout": 0.0, "model.batch_norm": False, "training.optimizer": "lamb"}
SMALL_VIT = {
    "model.arguments.depth": 1,
    "model.arguments.embed_dim": 32,
    "data.train_images": 320,
    "training.epochs": 2,
    "training.ema_decay": 0.5,
}
LRNN = {"method": "lrnn", "lrnn.iterations": 3, "lrnn.penalty": 0.2, "lrnn.cost_weight": 1.0}
JOINT = (
    tiny(**ALL | NO_NOISE),
    tiny(**ALL | FLOAT16 | NO_NOISE),
    tiny(**NO_NOISE | {"method": "rigl", "rigl.frequency": 4}),
    tiny(**ALL | NO_NOISE | {"method": "dlrt", "dlrt.tolerance": 0.3}),
    tiny(**NO_NOISE | {"method": "dlrt", "dlrt.adaptive": False, "training.optimizer": "sgd"}),
    tiny(**ALL | NO_NOISE | LRNN),
    load("vit_digits").with_settings(SMALL_VIT | {"method": "cuttlefish"}),
)


def joint(rank: int, size: int, port: int, directory: str) -> None:
    torch.set_num_threads(1)
    methods: list[Method] = []
    attach, loop.attach = loop.attach, lambda *given: methods.append(attach(*given)) or methods[-1]
    for number, experiment in enumerate(JOINT):
        replica = Replica(rank, size, "127.0.0.1", port, None, str(number))
        records = numbers(evaluate(experiment, seed=0, replica=replica))
        weights = [parameter.detach() for parameter in methods.pop().loop.model.parameters()]
        torch.save((records, weights), f"{directory}/{number}-{rank}.pt")
        gc.collect()  # the network holds the store, and that its port


def test_two_processes_train_what_one_would(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(joint, (2, port, str(tmp_path)), nprocs=2)
    for number, experiment in enumerate(JOINT):
        (first, weights), (second, others) = (torch.load(tmp_path / f"{number}-{rank}.pt") for rank in (0, 1))
        costs = {name: first[-1].pop(name) for name in ("inference_flops", "flops_percent")}  # only the first measures
        assert first == second and all(torch.equal(*pair) for pair in zip(weights, others, strict=True))
        assert all(cost > 0 for cost in costs.values())
        for alone, together in zip(numbers(evaluate(experiment, seed=0)), first, strict=True):
            assert alone["step"] == together["step"]
            assert alone.get("ranks", {}).keys() == together.get("ranks", {}).keys()
            assert alone["train_loss"] == pytest.approx(together["train_loss"], rel=1e-2)
            assert all(alone[key] == pytest.approx(together[key], rel=1e-2) for key in ("mse", "loss") if key in alone)
