"""States and networks that pass through files of other kinds, torch.compile and torch.export."""

import json

import pytest
import torch
import yaml
from torch import nn
from torch.optim.swa_utils import AveragedModel

from oialr_hpo.oialr import OIALR, load_low_rank, plan


def network(width: int = 24) -> nn.Sequential:
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
    return nn.Sequential(nn.Linear(width, width), block, *(nn.Linear(width, width) for _ in range(10)))


def trained(model: nn.Module) -> OIALR:
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    oialr = OIALR(model, optimizer, delay=1, frequency=1, cutoff=0.5, step_fraction=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(8, 24)).square().mean().backward()
        optimizer.step()
        oialr.step()
    return oialr


FORMATS = {
    "json, sorted": lambda state: json.loads(json.dumps(state, sort_keys=True)),
    "yaml": lambda state: yaml.safe_load(yaml.safe_dump(state)),
    "numbers as text": lambda state: {
        **state,
        "steps": str(state["steps"]), "updates": str(state["updates"]),
        "ranks": {name: str(rank) for name, rank in state["ranks"].items()},
    },
    "names as numbers": lambda state: {
        **state, "ranks": {int(name) if name.isdecimal() else name: rank for name, rank in state["ranks"].items()}
    },
}  # fmt: skip


@pytest.mark.parametrize("through", FORMATS)
def test_a_state_passes_through_any_format(through):
    """Layers '10' and '11' are sorted before '2'."""
    oialr = trained(network())
    resumed = OIALR(network(), delay=1, frequency=1)
    resumed.load_state_dict(FORMATS[through](oialr.state_dict()))
    assert list(resumed.ranks.items()) == list(oialr.ranks.items())
    assert (resumed.steps, resumed.updates) == (3, 2)
    resumed.model.load_state_dict(oialr.model.state_dict())
    assert resumed.state_dict() == oialr.state_dict()


def compiled(model: nn.Sequential) -> nn.Module:
    return torch.compile(model, backend="eager")


def partly_compiled(model: nn.Sequential) -> nn.Module:
    model[1] = torch.compile(model[1], backend="eager")
    return model


WRAPS = {"plain": lambda model: model, "compiled": compiled, "partly": partly_compiled, "parallel": nn.DataParallel}


@pytest.mark.parametrize("into", WRAPS)
@pytest.mark.parametrize("saved", [*WRAPS, "average"])
@pytest.mark.parametrize("merged", [False, True])
def test_weights_and_states_pass_between_compiled_and_plain_networks(saved, into, merged):
    source = WRAPS.get(saved, WRAPS["plain"])(network())
    oialr = trained(source)
    state = oialr.state_dict()
    if merged:
        oialr.merge()
    weights = (AveragedModel(source) if saved == "average" else source).state_dict()
    x = torch.randn(3, 24)
    loaded = WRAPS[into](network())
    assert load_low_rank(loaded, weights) is loaded
    torch.testing.assert_close(loaded(x), source(x))
    resumed = OIALR(WRAPS[into](network()), delay=1, frequency=1)
    resumed.load_state_dict(state)
    assert list(resumed.ranks.values()) == list(state["ranks"].values())


@pytest.mark.parametrize("wrap", ["compiled", "parallel"])
def test_the_plan_names_the_networks_own_layers(wrap):
    assert [layer.name for layer in plan(WRAPS[wrap](network()))] == [layer.name for layer in plan(network())]


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.up = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(16, 64)
        self.attention, self.down = nn.MultiheadAttention(64, 4, batch_first=True), nn.Linear(64, 8)

    def forward(self, x):
        y = self.up(self.conv(x).flatten(2).transpose(1, 2))
        return self.down(self.attention(y, y, y, need_weights=False)[0]).mean(1)


def low_rank(cutoff: float) -> nn.Module:
    torch.manual_seed(0)
    model = Mixed()
    oialr = OIALR(model, delay=0, frequency=1, cutoff=cutoff, step_fraction=1)
    with pytest.warns(UserWarning, match="no optimizer"):
        oialr.step()
    return model


@pytest.mark.parametrize("cutoff", [0.0, 0.8])
@pytest.mark.parametrize("grad", [False, True])
def test_a_low_rank_network_is_exported_with_a_dynamic_batch(cutoff, grad):
    model = low_rank(cutoff).eval()
    batch = {0: torch.export.Dim("batch", min=1, max=4096)}
    with torch.set_grad_enabled(grad):
        exported = torch.export.export(model, (torch.randn(4, 3, 4, 4),), dynamic_shapes=(batch,)).module()
        for rows in (1, 4, 33, 300):
            x = torch.randn(rows, 3, 4, 4)
            torch.testing.assert_close(exported(x), model(x), rtol=1e-4, atol=1e-5)
