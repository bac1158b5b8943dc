"""What a trained network costs to use, counted by hand beside it, and what a step costs."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oialr_hpo.experiment import Experiment, load
from oialr_hpo.mistake import Mistake
from oialr_hpo.training.flops import count_flops
from oialr_hpo.training.objective import evaluate
from oialr_hpo.training.rehearsal import rehearse
from tests.tiny_task import TinyTask, tiny

COSTS = {"inference_flops", "flops_percent", "step_milliseconds"}
SHAPES = {"stem": (16, 8), "blocks.0": (16, 16), "blocks.1": (16, 16), "head": (4, 16)}
DENSE = sum(2 * m * n for m, n in SHAPES.values())


class NeedsTraining(TinyTask):
    """Its loss is there for training alone."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        if not model.training:
            raise RuntimeError("never evaluated")
        return super().loss(model, batch)


def last(experiment: Experiment, **arguments: Any) -> dict[str, Any]:
    *before, record = evaluate(experiment, seed=1, **arguments)
    assert not any(COSTS & each.keys() for each in before), "only the last record knows"
    return record


@pytest.mark.parametrize("method", ["dense", "rigl"])
def test_zeros_are_computed_too(method: str) -> None:
    record = last(tiny(method=method))
    assert (record["inference_flops"], record["flops_percent"]) == (DENSE, 100)
    assert record["step_milliseconds"] > 0


@pytest.mark.parametrize("split", ["validation", "test"])
def test_low_rank_layers_count_as_merged(split: Any) -> None:
    """Two thin matrices, or a dense one where that is cheaper."""
    record = last(tiny(**{"oialr.cutoff": 0.8, "training.ema_decay": 0.5}), split=split)
    assert min(record["ranks"].values()) < 4
    cheapest = {name: min(m * n, record["ranks"].get(name, m) * (m + n)) for name, (m, n) in SHAPES.items()}
    assert record["inference_flops"] == 2 * sum(cheapest.values()) < DENSE
    assert record["flops_percent"] == pytest.approx(100 * record["inference_flops"] / DENSE)


def test_percents_refer_to_the_dense_network_of_the_file() -> None:
    file = load("vit_digits", ["training.epochs=1", "data.train_images=128", "model.arguments.depth=2", "method=dense"])
    two, one = last(file), last(file.trial({"model.arguments.depth": 1}))
    assert two["flops_percent"] == 100
    assert one["flops_percent"] == pytest.approx(100 * one["inference_flops"] / two["inference_flops"]) != 100


def test_a_task_that_does_not_allow_it_trains_all_the_same() -> None:
    experiment = tiny(method="dense").model_copy(update={"task": f"{__name__}:NeedsTraining"})
    assert COSTS & last(experiment).keys() == {"step_milliseconds"}


def attention(x: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(x, x, x)


@pytest.mark.parametrize(
    ("network", "flops"),
    [
        (attention, 2 * (2 * 10 * 10 * 16)),
        (nn.MultiheadAttention(16, 2, batch_first=True), 4 * (2 * 10 * 16 * 16) + 2 * (2 * 10 * 10 * 16)),
        (nn.LSTM(16, 8, batch_first=True), 10 * 2 * 32 * (16 + 8)),
        (nn.GRU(16, 8, batch_first=True), 10 * 2 * 24 * (16 + 8)),
    ],
    ids=lambda value: type(value).__name__,
)
@torch.no_grad()
def test_what_has_kernels_of_its_own_is_counted(network: Callable[..., Any], flops: int) -> None:
    inputs = torch.randn(3, 10, 16)
    if isinstance(network, nn.Module):
        network.eval()
    arguments = [inputs] * (3 if isinstance(network, nn.MultiheadAttention) else 1)
    assert count_flops(lambda: network(*arguments), recurrent=True) == 3 * flops


def rehearsed(**settings: Any) -> None:
    list(rehearse(tiny(**settings), seed=0))


def test_what_only_the_end_tells_can_be_bounded_but_not_aimed_at() -> None:
    bound = {"flops_percent": {"max": 50}}
    rehearsed(constraints=bound)
    with pytest.raises(Mistake, match="score: flops_percent is measured after the last epoch only; bound it in constr"):
        rehearsed(**{"score.minimize": "flops_percent"})
    with pytest.raises(Mistake, match=r"constraints: flops_percent is measured after .* only; set score.epoch to last"):
        rehearsed(**{"score.epoch": "best", "constraints": bound})
