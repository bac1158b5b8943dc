"""OIALR on a GPU: the CPU's numbers, no waiting for the GPU in a plain step, less memory, and what surrounds it."""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from oialr_hpo.oialr import OIALR
from oialr_hpo.oialr.layers import LowRank
from oialr_hpo.oialr.stability import Tracker


def vit() -> nn.Module:
    torch.manual_seed(0)
    return timm.models.VisionTransformer(
        img_size=16, patch_size=4, embed_dim=64, depth=2, num_heads=2, num_classes=10, qkv_bias=False
    )


def convolutional() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 32, 3, stride=2, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


def batch(device: torch.device, seed: int = 0, count: int = 32) -> tuple[Tensor, Tensor]:
    """Images whose brightest channel, or none, is the label."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(4, (count,), generator=generator)
    x = torch.randn(count, 3, 16, 16, generator=generator)
    x += 2 * F.one_hot(y, 4)[:, :3, None, None]
    return x.to(device), y.to(device)


def make(network: nn.Module, **settings: object) -> tuple[torch.optim.Optimizer, OIALR]:
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, fused=True)
    chosen = {"delay": 2, "frequency": 2, "cutoff": 0.3, "step_fraction": 0.5, **settings}
    return optimizer, OIALR(network, optimizer, **chosen)


def step(network: nn.Module, optimizer: torch.optim.Optimizer, oialr: OIALR, x: Tensor, y: Tensor) -> Tensor:
    loss = F.cross_entropy(network(x), y)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    oialr.step()
    return loss.detach()


@contextmanager
def no_waiting() -> Iterator[None]:
    """Inside, whatever waits for the GPU is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the mode is a prototype
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("build", [vit, convolutional])
def test_a_conversion_and_a_cut_leave_what_they_leave_on_a_cpu(build, gpu):
    """From equal weights: ranks, weights and optimizer state of the two devices, up to signs of singular vectors."""
    weights, states, ranks = [], [], []
    for device in (torch.device("cpu"), gpu):
        network = build().to(device)
        optimizer, oialr = make(network, delay=1, frequency=2)
        x, y = batch(device)
        step(network, optimizer, oialr, x, y)
        before = {name: m.weight.detach() for name, m in network.named_modules() if isinstance(m, LowRank)}
        assert all(m.u.device == device and m.sigma.device == device for m in network.modules() if hasattr(m, "u"))
        oialr._update()
        weights.append({name: network.get_submodule(name).weight.detach().cpu() for name in before})
        moments = [optimizer.state[network.get_submodule(name).sigma] for name in before]
        states.append([float(state["exp_avg"].norm()) for state in moments])
        ranks.append(oialr.ranks)
        assert all(tensor.device == device for state in moments for tensor in state.values())
    assert ranks[0] == ranks[1] and ranks[0]
    for name, weight in weights[0].items():  # the first step of AdamW takes the sign of gradients that are near zero
        assert torch.linalg.norm(weights[1][name] - weight) < 0.02 * torch.linalg.norm(weight), name
    assert states[1] == pytest.approx(states[0], rel=0.02)


@pytest.mark.parametrize("build", [vit, convolutional])
def test_low_rank_layers_give_the_cpus_outputs_and_gradients(build, gpu):
    network = build()
    OIALR(network, delay=0, frequency=1)
    twin = copy.deepcopy(network).to(gpu)
    results = []
    for model, device in ((network, torch.device("cpu")), (twin, gpu)):
        x, y = batch(device)
        outputs = model(x)
        F.cross_entropy(outputs, y).backward()
        gradients = [p.grad.cpu() for p in model.parameters() if p.grad is not None]
        results.append([outputs.detach().cpu(), *gradients])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("build", [vit, convolutional])
def test_the_change_over_and_the_merge_change_no_output(build, gpu):
    network = build().to(gpu)
    x, _ = batch(gpu)
    network.eval()
    dense = network(x)
    oialr = OIALR(network, delay=0, frequency=1)
    torch.testing.assert_close(network(x), dense, rtol=1e-3, atol=1e-4)
    low_rank = network(x)
    merged = oialr.merge()
    torch.testing.assert_close(merged(x), low_rank, rtol=1e-3, atol=1e-4)
    assert all(parameter.device == gpu for parameter in merged.parameters())


def test_a_weight_without_rank_is_completed_there(gpu):
    layer = nn.Sequential(nn.Linear(24, 40)).to(gpu)
    nn.init.zeros_(layer[0].weight)
    OIALR(layer, delay=0, frequency=1)
    for basis in (layer[0].u, layer[0].vt.t()):
        assert basis.device == gpu
        torch.testing.assert_close(basis.t() @ basis, torch.eye(24, device=gpu), rtol=0, atol=1e-5)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float32])
def test_it_learns(precision, gpu):
    network = vit().to(gpu)
    optimizer, oialr = make(network, delay=10, frequency=10, cutoff=0.3)
    losses = []
    for seed in range(60):
        x, y = batch(gpu, seed)
        with torch.autocast("cuda", precision, enabled=precision != torch.float32):
            losses.append(step(network, optimizer, oialr, x, y))
    assert torch.stack(losses[-5:]).mean() < 0.3 * losses[0]
    assert oialr.trainable_percent < 60 and oialr.ranks["blocks.1.mlp.fc2"] < 64


def test_float16_with_scaled_gradients_learns_and_counts_only_steps_that_were_made(gpu):
    network = vit().to(gpu)
    optimizer, oialr = make(network, delay=10, frequency=10, cutoff=0.1)
    scaler, losses, made = torch.amp.GradScaler("cuda", init_scale=2.0**24), [], 0  # its first steps overflow
    for seed in range(80):
        x, y = batch(gpu, seed)
        with torch.autocast("cuda", torch.float16):
            loss = F.cross_entropy(network(x), y)
        scaler.scale(loss).backward()
        scale = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        made += scaler.get_scale() >= scale
        optimizer.zero_grad()
        oialr.step()
        losses.append(loss.item())
    assert made < 80 and oialr.steps == made
    assert sum(losses[-5:]) / 5 < 0.4 * losses[0]


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("build", [vit, convolutional])
def test_a_plain_step_never_waits_for_the_gpu(build, autocast, gpu):
    network = build().to(gpu)
    optimizer, oialr = make(network, delay=2, frequency=1000)
    x, y = batch(gpu)

    def train(count: int) -> None:
        for _ in range(count):
            with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
                loss = F.cross_entropy(network(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            optimizer.zero_grad()
            oialr.step()

    train(4)
    assert oialr.ranks
    with no_waiting():
        train(4)


def test_a_low_rank_step_needs_less_memory(gpu):
    def peak(rank: int | None) -> int:
        torch.manual_seed(0)
        network = nn.Sequential(*[nn.Linear(1024, 1024) for _ in range(8)]).to(gpu)
        optimizer, oialr = make(network, delay=10**6)
        if rank:
            oialr.load_state_dict({"steps": 10**6, "updates": 0, "ranks": dict.fromkeys("01234567", rank)})
            for parameter in network.parameters():
                nn.init.normal_(parameter, std=0.03)
        x = torch.randn(4096, 1024, device=gpu)
        for _ in range(2):
            torch.cuda.reset_peak_memory_stats()
            network(x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        return torch.cuda.max_memory_allocated()

    assert peak(64) < 0.75 * peak(None)


def test_optimizer_states_follow_every_cut(gpu):
    network = vit().to(gpu)
    optimizer, oialr = make(network, frequency=1, cutoff=0.5, step_fraction=1.0)
    x, y = batch(gpu)
    sizes = set()
    for _ in range(6):
        step(network, optimizer, oialr, x, y)
        for parameter, state in optimizer.state.items():
            assert state["exp_avg"].shape == parameter.shape and state["step"].device == gpu
        sizes.add(sum(oialr.ranks.values()))
    assert len(sizes) > 2 and torch.isfinite(network(x)).all()


def test_an_average_follows(gpu):
    network = vit().to(gpu)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    optimizer, oialr = make(network, averages=[average])
    x, y = batch(gpu)
    for _ in range(6):
        step(network, optimizer, oialr, x, y)
        average.update_parameters(network)
    for _ in range(40):
        average.update_parameters(network)
    torch.testing.assert_close(average(x), network(x), rtol=1e-3, atol=1e-3)


def test_a_tracker_observes_and_keeps_nothing_on_the_gpu(gpu):
    network = vit().to(gpu)
    optimizer, oialr = make(network, delay=2)
    tracker = Tracker(network, lag=1)
    x, y = batch(gpu)
    for _ in range(3):
        step(network, optimizer, oialr, x, y)
        values = tracker.observe()
    assert all(0 <= value <= 1 for kind in values.values() for value in kind.values())
    history = tracker.state_dict()["history"]
    assert all(tensor.device.type == "cpu" for each in history for tensor in each["blocks.0.mlp.fc1"][:2])


def test_compiled_low_rank_layers_give_the_same_values_and_gradients(gpu):
    torch.compiler.reset()
    network = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64)).to(gpu)
    oialr = OIALR(network, delay=0, frequency=1, cutoff=0.4, step_fraction=1.0, rank_multiple=8)
    compiled = torch.compile(network)
    x = torch.randn(512, 64, device=gpu)
    for _ in range(2):  # at full rank, and after a cut
        results = []
        for model in (network, compiled):
            model.zero_grad()
            outputs = model(x)
            outputs.square().mean().backward()
            results.append([outputs.detach(), *(p.grad.clone() for p in network.parameters() if p.grad is not None)])
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-4)
        oialr.step()
    assert max(oialr.ranks.values()) < 64
