"""Optimizers of bitsandbytes, whose states have names and shapes of their own."""

import pytest
import torch
from torch import nn

from oialr_hpo.oialr import OIALR

bnb = pytest.importorskip("bitsandbytes")
NAMES = ["Adam", "AdamW", "RMSprop", "Lion", "SGD", "Adam8bit", "AdamW8bit", "RMSprop8bit", "Lion8bit", "AdEMAMix"]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("delay", [3, 30])
@pytest.mark.parametrize("name", NAMES)
def test_states_start_afresh_and_training_goes_on(name, delay):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(96, 96), nn.Tanh(), nn.Linear(96, 96)).to(DEVICE)
    options = {"momentum": 0.9} if name == "SGD" else {}
    optimizer = getattr(bnb.optim, name)(model.parameters(), lr=1e-3, **options)
    oialr = OIALR(model, optimizer, delay=delay, frequency=4, cutoff=0.05, step_fraction=1)
    losses = []

    def step() -> None:
        x = torch.randn(64, 96, device=DEVICE)
        loss = (model(x) - x.roll(1, 1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        try:
            optimizer.step()
        except (NotImplementedError, RuntimeError) as error:
            if DEVICE == "cpu" and not losses:
                pytest.skip(f"bitsandbytes' {name} does not run on CPUs: {error}")
            raise
        losses.append(loss.item())

    for _ in range(delay - 1):
        step()
        oialr.step()
    step()
    with pytest.warns(UserWarning, match=f"{name}: 'state1' cannot follow"):
        oialr.step()
    for _ in range(10):
        step()
        oialr.step()
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert max(losses[delay:]) < 1.3 * max(losses[:delay])
