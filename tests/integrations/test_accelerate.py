"""OIALR under accelerate: its optimizer's wrapper, gradient accumulation, hooks and mixed precision."""

import pytest
import torch
from torch import nn

from oialr_hpo.oialr import OIALR
from oialr_hpo.oialr.layers import LowRank

accelerate = pytest.importorskip("accelerate")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 8))


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_the_wrapped_optimizer_is_followed_and_its_steps_are_counted(precision):
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2, mixed_precision=precision)
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 4)
    model, optimizer, scheduler = accelerator.prepare(model, optimizer, scheduler)
    oialr = OIALR(model, optimizer, delay=2, frequency=2, cutoff=0.3, step_fraction=1)
    sigma = None
    for t in range(12):
        with accelerator.accumulate(model):
            x = torch.randn(16, 8)
            accelerator.backward((model(x) - x.roll(1, 1)).square().mean())
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        oialr.step()
        assert oialr.steps == (t + 1) // 2
        if t == 10:
            sigma = [m.sigma.detach().clone() for m in model.modules() if isinstance(m, LowRank)]
        if t == 8:
            oialr.frequency = 100
    assert len(oialr.ranks) == 2 and max(oialr.ranks.values()) < 8
    now = [m.sigma for m in model.modules() if isinstance(m, LowRank)]
    assert all(not torch.equal(a, b) for a, b in zip(now, sigma, strict=True))
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


def test_hooks_of_accelerate_stay():
    """They replace a module's `forward`."""
    from accelerate.hooks import ModelHook, add_hook_to_module

    class Doubling(ModelHook):
        def post_forward(self, module, output):
            return 2 * output

    model, x = network(), torch.randn(4, 8)
    add_hook_to_module(model[2], Doubling())
    expected = model(x)
    OIALR(model, delay=0, frequency=1)
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
