"""CP against scikit-learn's LASSO, NumPy's least squares and counted multiplications."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.linear_model import Lasso
from torch import Tensor, nn

from oialr_hpo.experiment import load
from oialr_hpo.methods import Loop
from oialr_hpo.methods.cp import CP, lasso, reconstructed
from oialr_hpo.tasks.image_classification.networks import build_network
from oialr_hpo.training.objective import evaluate
from tests.methods.interruption import interrupted_after
from tests.methods.reconstruction import SMALL, Idle, attach, check, network, small_task, worked_out

EVERYWHERE = {"images": 100, "samples": 10_000, "depth": 1.0}
INTERRUPTED = SMALL | {"method": "cp", "cp.delay": 0.5}


def chosen_by_lasso(z: Tensor, y: Tensor, width: int) -> list[int]:
    """λ is doubled or halved until so many coefficients are left."""
    low, high = 1e-9, 1e3
    while True:
        penalty = (low * high) ** 0.5
        found = Lasso(alpha=penalty, fit_intercept=False, tol=1e-12, max_iter=100_000).fit(z.numpy(), y.numpy()).coef_
        number = np.count_nonzero(found)
        if number == width:
            return [int(i) for i in np.flatnonzero(found)]
        low, high = (penalty, high) if number > width else (low, penalty)


def prune(x: Tensor, y: Tensor, weight: Tensor, width: int) -> dict[int, np.ndarray]:
    """Equations 3 and 4."""
    z = torch.stack([x[:, i] @ (weight[:, i] / weight[:, i].norm()).t() for i in range(x.shape[1])], 2)
    kept = chosen_by_lasso(z.flatten(0, 1), y.flatten(), width)
    found = np.linalg.lstsq(x[:, kept].flatten(1).numpy(), y.numpy(), rcond=None)[0]
    return dict(zip(kept, found.T.reshape(y.shape[1], width, -1).transpose(1, 0, 2), strict=True))


def test_a_network_is_pruned_as_in_the_paper() -> None:
    before = network()
    method = attach(CP, deepcopy(before), delay=2, speed_up=3.0, ratio=1.2, **EVERYWHERE)
    method.make_step(Idle())
    assert not method.layers()
    state = torch.get_rng_state()
    method.make_step(Idle())
    assert torch.equal(torch.get_rng_state(), state)
    widths = method.layers()
    assert widths.keys() == method.full_layers().keys() and method.full_layers() == {"0": 8, "2": 10, "6": 6}
    check(method, before, worked_out(before, {name: int(width) for name, width in widths.items()}, prune))


def multiplications(network: nn.Module) -> int:
    """Of a VGG, for an image of 32 x 32 pixels, which 2 x 2 pools halve."""
    total, side = 0, 32
    for module in network.modules():
        side //= 2 if isinstance(module, nn.MaxPool2d) else 1
        if isinstance(module, nn.Conv2d):
            total += side**2 * 9 * module.in_channels * module.out_channels
        elif isinstance(module, nn.Linear):
            total += module.in_features * module.out_features
    return total


def test_widths_follow_from_the_speed_up() -> None:
    """VGG-16: conv1_1 to conv3_3, then conv4_x with 1.5 times the share, then conv5_x, which stays."""
    torch.manual_seed(0)
    model = build_network("vgg16_cifar", {"width": 0.25})
    before = multiplications(model)
    batches = [torch.randn(32, 3, 32, 32)]
    optimizer = torch.optim.SGD(model.parameters())
    loop = Loop(model, optimizer, lambda model, batch: model(batch).mean(), 4, 2, [], lambda: iter(batches))
    method = CP(CP.Settings(delay=1, speed_up=4.0, images=32), loop)
    method.make_step(Idle())
    assert 4 <= before / multiplications(model) < 4.4
    full = method.full_layers()
    shares = [method.layers().get(name, full[name]) / full[name] for name in full]
    shallow = sum(shares[:7]) / 7
    assert shares[:7] == pytest.approx([shallow] * 7, abs=0.04)
    assert shares[7:10] == pytest.approx([1.5 * shallow] * 3, abs=0.04)
    assert shares[10:] == [1, 1, 1] and len(method.layers()) == 10


def test_a_speed_up_beyond_reach_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    method = attach(CP, network(), delay=1, speed_up=1000.0, **EVERYWHERE)
    method.make_step(Idle())
    assert method.layers() == {"0": 1, "2": 1, "6": 1}
    said = capsys.readouterr().err
    assert said.startswith("warning: cp.speed_up 1000 is beyond reach") and said.count("\n") == 1
    assert "times as fast; lower it" in said


def test_lasso_goes_along_the_whole_path() -> None:
    """One channel is silent."""
    torch.manual_seed(1)
    z = torch.randn(200, 7).double() @ torch.randn(7, 7).double()
    z[:, 2] = 0
    y = z.sum(1) + torch.randn(200)
    for width in range(1, 7):
        assert lasso(z.t() @ z, z.t() @ y, width) == chosen_by_lasso(z, y, width)
    assert lasso(z.t() @ z, z.t() @ y, 7) == [0, 1, 3, 4, 5, 6]


def test_channels_that_tell_nothing_new_keep_no_other_out() -> None:
    z = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)).double()[:, [0, 1, 1, 2]]
    assert {0, 3} < {*lasso(z.t() @ z, z.t() @ z.sum(1), 4)}
    few = torch.randn(4, 9, generator=torch.Generator().manual_seed(0)).double()
    assert len(lasso(few.t() @ few, few.t() @ few.sum(1), 3)) == 3
    assert lasso(torch.zeros(3, 3).double(), torch.zeros(3).double(), 2) == [0]


def test_of_channels_without_correlations_the_best_ones_are_chosen() -> None:
    """As trying all would: those with the largest part of y."""
    z = torch.linalg.qr(torch.randn(30, 6, generator=torch.Generator().manual_seed(0)).double())[0]
    y = z @ torch.tensor([0.5, -3.0, 1.0, 0.1, 2.0, -0.7]).double()
    assert lasso(z.t() @ z, z.t() @ y, 3) == [1, 2, 4]


def test_weights_that_samples_do_not_tell_stay() -> None:
    """Two samples of three inputs: the nearest weights to those before that are exact."""
    x = torch.tensor([[1.0, 0, 1], [0, 2, 0]]).double()
    y = torch.tensor([[4.0], [2.0]]).double()
    weight = torch.tensor([[1.0, 5.0, 2.0]]).double().view(1, 3, 1)
    found = reconstructed(x.t() @ x, x.t() @ y, weight, torch.arange(3))
    assert found.flatten().tolist() == pytest.approx([1.5, 1.0, 2.5])


@pytest.mark.parametrize("interrupted", [1, 2])
def test_an_interrupted_training_goes_on_to_the_same_numbers(interrupted: int, tmp_path: Path) -> None:
    experiment = load("vgg_digits", []).with_settings(INTERRUPTED)
    weights = tmp_path / "weights.safetensors"
    records = interrupted_after(interrupted, experiment, tmp_path, 0, weights)
    for one, other in zip(records, evaluate(experiment, seed=0), strict=True):
        assert all(one[key] == other[key] for key in ("train_loss", "loss", "widths", "parameters"))
    assert not records[0]["widths"] and records[1]["total_percent"] == records[2]["total_percent"] < 80
    task = small_task(experiment)
    loaded = CP.load_weights(task.build_model(), load_file(weights)).eval()
    with torch.no_grad():
        assert task.evaluate(loaded, "validation")["loss"] == pytest.approx(records[-1]["loss"], rel=1e-5)


def test_its_speed_up_is_searched() -> None:
    experiment = load("vgg_digits", ["method=cp", "search.cp.speed_up={float: [1.5, 5]}"])
    assert "cp.speed_up" in experiment.search and experiment.value("cp.speed_up") == 2.0
    assert experiment.method_settings.change_over(300) == 100
