"""Adapters of PEFT: the frozen weights stay, the adapters' matrices are layers like others."""

import pytest
import torch
from torch import nn

from oialr_hpo.oialr import OIALR

peft = pytest.importorskip("peft")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, x):
        return self.last(self.first(x).tanh())


def test_adapters_are_converted_and_frozen_weights_stay():
    torch.manual_seed(0)
    config = peft.LoraConfig(r=4, target_modules=["first", "last"], init_lora_weights=False)
    model = peft.get_peft_model(Net(), config)
    x = torch.randn(8, 16)
    expected = model(x)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-2)
    oialr = OIALR(model, optimizer, delay=0, frequency=2, cutoff=0.3, step_fraction=1)
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    assert len(oialr.ranks) == 4 and all("lora_" in name for name in oialr.ranks)
    assert {layer.reason for layer in oialr.report if not layer.rank} == {"frozen"}
    before = {name: p.detach().clone() for name, p in model.named_parameters() if "base_layer" in name}
    for _ in range(4):
        optimizer.zero_grad()
        (model(x) - x).square().mean().backward()
        optimizer.step()
        oialr.step()
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters() if name in before)
    assert torch.isfinite(model(x)).all()
