"""GAL against the paper's formulas written plainly, in the training loop, and through the doors of files."""

import copy
import math
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from oialr_hpo.experiment import Experiment, load
from oialr_hpo.methods import Loop
from oialr_hpo.methods._adversary import discriminator_loss, generator_loss
from oialr_hpo.methods._fista import Masks
from oialr_hpo.methods.gal import GAL
from oialr_hpo.tasks import Split
from oialr_hpo.training.objective import build_task, evaluate

Batch = tuple[Tensor, Tensor]


def test_masks_take_the_steps_of_fista() -> None:
    """On H(m) = m^T A m / 2 - b^T m, with a restart; in the end they are the minimum of H + λ |m|_1 over m >= 0."""
    random = np.random.default_rng(0)
    root = random.normal(size=(6, 6))
    a, b, eta, penalty = root @ root.T / 6 + 0.1 * np.eye(6), random.normal(size=6), 0.1, 0.3
    start = random.normal(size=6)
    masks = Masks({"all": torch.from_numpy(start)})
    m = m_before = np.maximum(start, 0)
    alphas = [1.0]
    for k in range(2000):
        if k == 5:
            masks.restart()
            alphas, m_before = [1.0], m
        alphas.append((1 + math.sqrt(1 + 4 * alphas[-1] ** 2)) / 2)
        y = np.maximum(m + (alphas[-2] - 1) / alphas[-1] * (m - m_before), 0)
        assert np.allclose(masks.points["all"].detach(), y, rtol=0, atol=1e-12)
        z = y - eta * (a @ y - b)
        m, m_before = np.array([max(0, math.copysign(max(0, abs(x) - eta * penalty), x)) for x in z]), m
        masks.step({"all": torch.from_numpy(a) @ masks.points["all"].detach() - torch.from_numpy(b)}, eta, penalty)
        assert np.allclose(masks.values["all"], m, rtol=0, atol=1e-12)
    slope = a @ m - b + penalty
    assert 0 < (m > 0).sum() < 6 and np.allclose(slope[m > 0], 0, atol=1e-8) and (slope[m == 0] > 0).all()


def test_losses_are_those_of_the_paper() -> None:
    torch.manual_seed(0)
    real, fake, outputs, targets = torch.randn(3, 1), torch.randn(3, 1), torch.randn(3, 4), torch.randn(3, 4)

    def d(logit: Tensor) -> float:
        return 1 / (1 + math.exp(-float(logit)))

    expected = sum(-math.log(d(r)) - math.log(1 - d(f)) - math.log(d(f)) for r, f in zip(real, fake, strict=True)) / 3
    assert float(discriminator_loss(real, fake)) == pytest.approx(expected, rel=1e-5)
    distances = sum((t - o) ** 2 for t, o in zip(targets.flatten().tolist(), outputs.flatten().tolist(), strict=True))
    expected = sum(-math.log(d(f)) for f in fake) / 3 + distances / (2 * 3)
    assert float(generator_loss(fake, outputs, targets)) == pytest.approx(expected, rel=1e-5)


def small() -> nn.Module:
    """Two convolutions, a norm and a pooling; the last layer reads four pixels of each channel."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 5, 3, padding=1), nn.GELU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(20, 3),
    )  # fmt: skip


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def batch_of(number: int) -> Batch:
    generator = torch.Generator().manual_seed(number)
    return torch.randn(8, 1, 8, 8, generator=generator), torch.randint(3, (8,), generator=generator)


class OneBatch:
    """A step without a training loop."""

    def __init__(self, method: GAL, batch: Batch) -> None:
        self.method, self.batch = method, batch

    def backward(self) -> None:
        self.method.loop.optimizer.zero_grad()
        self.method.loss(self.method.loop.model, self.batch).backward()

    def update(self) -> bool:
        self.method.loop.optimizer.step()
        self.method.loop.optimizer.zero_grad()
        return True


def attached(kind: type[GAL] = GAL, **settings: Any) -> Any:
    torch.manual_seed(0)
    return attach(small(), kind, **settings)


def attach(network: nn.Module, kind: type[GAL] = GAL, **settings: Any) -> Any:
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    loop = Loop(network, optimizer, cross_entropy, 12, 4, [], lambda: iter([batch_of(0)]))
    return kind(GAL.Settings(**{"delay": 2, "adversarial": 10, **settings}), loop)


def test_steps_are_those_of_algorithm_1() -> None:
    """Two of the dense network, then D, the weights and the masks in turn, with other labels: none is looked at."""
    method = attached(sparsity=2.0)
    student = method.loop.model
    for number in range(2):
        method.make_step(OneBatch(method, batch_of(number)))
    teacher, plain = copy.deepcopy(student).eval(), copy.deepcopy(student)
    d = copy.deepcopy(method._adversary.network)
    assert [layer.out_features for layer in d if isinstance(layer, nn.Linear)] == [128, 256, 128, 1]
    masks = {name: value.clone() for name, value in method._masks.values.items()}
    points = {name: value.clone().requires_grad_() for name, value in masks.items()}
    weights = [*plain.parameters()]
    momenta = [method.loop.optimizer.state[p]["momentum_buffer"].clone() for p in student.parameters()]
    momenta_of_d = [torch.zeros_like(parameter) for parameter in d.parameters()]
    alpha = 1.0
    for t in range(7):
        eta = 0.01 * 0.1 ** (t // 3)  # a tenth after each 30 % of ten steps
        images, _ = batch_of(t)
        method.make_step(OneBatch(method, (images, torch.zeros(8).long())))

        first = plain[:4](images) * points["0"][:, None, None]
        second = plain[4:7](first) * points["4"][:, None, None]
        outputs, targets = plain[7:](second), teacher(images).detach()
        real, fake = d(targets).sigmoid(), d(outputs.detach()).sigmoid()
        loss_of_d = -(real.log() + (1 - fake).log() + fake.log()).mean()
        gradients = torch.autograd.grad(loss_of_d, [*d.parameters()])
        with torch.no_grad():
            for parameter, gradient, momentum in zip(d.parameters(), gradients, momenta_of_d, strict=True):
                momentum.mul_(0.9).add_(gradient + 2e-4 * parameter)
                parameter -= eta * momentum
        loss = -d(outputs).sigmoid().log().mean() + ((targets - outputs) ** 2).sum() / 16
        gradients = torch.autograd.grad(loss, [*weights, *points.values()])
        with torch.no_grad():
            for parameter, gradient, momentum in zip(weights, gradients, momenta, strict=False):
                momentum.mul_(0.9).add_(gradient)
                parameter -= 0.1 * momentum
            after = (1 + math.sqrt(1 + 4 * alpha**2)) / 2
            following = (1 + math.sqrt(1 + 4 * after**2)) / 2
            for (name, y), gradient in zip(points.items(), gradients[len(weights) :], strict=True):
                m = (y - eta * gradient - eta * 2).clamp(min=0)
                moved = m + (after - 1) / following * (m - masks[name])
                y.copy_(m if t % 3 == 2 else moved.clamp(min=0))
                masks[name] = m
            alpha = 1.0 if t % 3 == 2 else after

        for name, value in masks.items():
            torch.testing.assert_close(method._masks.values[name], value, rtol=1e-4, atol=1e-5)
        for ours, expected in zip(student.parameters(), weights, strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4)
        for ours, expected in zip(method._adversary.network.parameters(), d.parameters(), strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-5)
    assert any(bool((value == 0).any()) for value in masks.values())


class Watched(GAL):
    """Looks at the network's outputs just before and after channels are removed."""

    def _end(self) -> None:
        network, (images, _) = self.loop.model.eval(), batch_of(9)
        before = copy.deepcopy(network)
        self.kept = {name: int((value > 0).sum()) for name, value in self._masks.values.items()}
        super()._end()
        torch.testing.assert_close(network(images), before(images), rtol=1e-4, atol=1e-5)
        finished = self.finish(before)
        torch.testing.assert_close(network(images), finished(images), rtol=1e-4, atol=1e-5)
        assert finished.state_dict().keys() == small().state_dict().keys()
        network.train()


@pytest.mark.parametrize("sparsity", [0.05, 1e4])
def test_a_network_without_masked_channels_computes_the_same(sparsity: float) -> None:
    method = attached(Watched, sparsity=sparsity, adversarial=4)
    for number in range(7):
        method.make_step(OneBatch(method, batch_of(number)))
        if number < 5:
            assert method.layers() == {}
    assert method.full_layers() == {"0": 6, "4": 5}
    assert method.layers() == {name: kept or 1 for name, kept in method.kept.items()}
    assert sum(method.layers().values()) < 11
    first, second = method.layers().values()
    assert method.parameters()[0] == first * (9 + 1 + 2) + second * (9 * first + 1) + 3 * (4 * second + 1)
    parameters = {id(parameter) for parameter in method.loop.model.parameters()}
    assert {id(p) for group in method.loop.optimizer.param_groups for p in group["params"]} == parameters


def digits(**changes: Any) -> Experiment:
    settings = {
        "method": "gal", "model.arguments": {"in_chans": 1, "img_size": 8, "width": 0.0625}, "training.epochs": 3,
        "training.ema_decay": 0.5, "gal.sparsity": 0.5,
    }  # fmt: skip
    return load("vgg_digits").with_settings(settings | changes)


def numbers(records: Any) -> list[dict[str, Any]]:
    asked = ("train_loss", "loss", "step", "widths", "parameters")
    return [{name: record[name] for name in asked if name in record} for record in records]


def test_an_interrupted_training_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    """Before, within and after the adversarial part, which ends in the third epoch."""
    changes = {"training.epochs": 4, "gal.delay": 20, "gal.adversarial": 20}
    unbroken = numbers(evaluate(digits(**changes), seed=3))
    assert unbroken[1]["parameters"] > unbroken[2]["parameters"] and "widths" in unbroken[2]
    records, checkpoint = [], tmp_path / "checkpoint.pt"
    for _ in range(4):
        session = evaluate(digits(**changes), seed=3, checkpoint=checkpoint)
        records.append(next(session))
        with pytest.raises(StopIteration):
            session.send("interrupt")
    assert numbers(records) == unbroken


@pytest.mark.parametrize(
    "changes",
    [
        {"training.precision": "float16", "training.optimizer": "adamw"},
        {"training.accumulation_steps": 2, "training.optimizer": "sgd", "schedule.lr": 0.01},
    ],
)
def test_in_float16_and_over_several_batches(changes: dict[str, Any]) -> None:
    records = list(evaluate(digits(**changes), seed=1))
    assert records[-1]["loss"] < 3 and math.isfinite(records[1]["train_loss"])
    assert sum(records[-1]["widths"].values()) < sum(records[0]["full_widths"].values())


def test_a_delay_beyond_the_run_leaves_a_dense_network() -> None:
    *_, last = evaluate(digits(**{"gal.delay": 100_000, "training.epochs": 1}), seed=1)
    assert last["total_percent"] == 100


@pytest.mark.parametrize("split", ["validation", "test"])
def test_weights_are_kept_and_loaded(split: Split, tmp_path: Path) -> None:
    """Those of the best epoch too, which in a short run is one of the masked network."""
    file = tmp_path / "weights.safetensors"
    changes = {"score.epoch": "best", "training.epochs": 2, "gal.delay": 10, "gal.adversarial": 20}
    record = list(evaluate(digits(**changes), seed=1, split=split, weights=file))[-1]
    task = build_task(digits(), seed=1, device=torch.device("cpu"), data_dir=None, split=split)
    network = GAL.load_weights(task.build_model(), load_file(file)).eval()
    with torch.no_grad():
        assert task.evaluate(network, split)["loss"] == pytest.approx(record["loss"], rel=1e-4)


def other(_: int, port: int, directory: str) -> None:
    torch.set_num_threads(1)
    torch.save(joint(1, port), f"{directory}/other.pt")


def joint(rank: int, port: int) -> dict[str, Tensor]:
    patience = timedelta(minutes=2)
    store = dist.TCPStore("127.0.0.1", port, 2, is_master=rank == 0, timeout=patience)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=patience)
    try:
        return trained(rank, 2)
    finally:
        dist.destroy_process_group()


def trained(rank: int, size: int) -> dict[str, Tensor]:
    """A network without norms, of which each process has other random numbers, after channels were removed."""
    torch.manual_seed(0)
    network = small()
    network[1] = nn.Identity()  # type: ignore[index]
    model = DistributedDataParallel(network) if size > 1 else network
    torch.manual_seed(rank)
    method = attach(model, sparsity=0.5, adversarial=4)
    for number in range(7):
        images, labels = batch_of(number)
        method.make_step(OneBatch(method, (images[rank::size], labels[rank::size])))
    assert sum(method.layers().values()) < 11
    return network.state_dict()


def test_two_processes_train_what_one_would(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = mp.spawn(other, (port, str(tmp_path)), join=False)
    first, alone = joint(0, port), trained(0, 1)
    while not process.join():
        pass
    second = torch.load(tmp_path / "other.pt")
    for name, value in alone.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], value, rtol=1e-3, atol=1e-4)


class Several(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = small()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.layers(x), x


def test_networks_that_are_refused() -> None:
    network = Several()
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    loop = Loop(network, optimizer, lambda model, b: model(b[0])[0].sum(), 12, 4, [], lambda: iter([batch_of(0)]))
    with pytest.raises(ValueError, match="^gal: Several gives no tensor but tuple; take another method, such as sfp$"):
        GAL(GAL.Settings(), loop)
    with pytest.raises(ValueError, match="^gal: VisionTransformer has no convolution"):
        list(evaluate(load("vit_digits", ["method=gal"]), seed=0))


def test_its_sparsity_is_searched() -> None:
    experiment = load("vgg_digits", ["method=gal", "search.gal.sparsity={float: [0.01, 1], log: true}"])
    assert experiment.trial({"gal.sparsity": 0.1}).value("gal.sparsity") == 0.1
    assert experiment.method_settings.change_over(100) == 66
