"""Optimizers through the conversion and cuts of rank."""

import pytest
import timm.optim
import torch
from torch import nn

from oialr_hpo.oialr import OIALR

TORCH = {
    "sgd": lambda p: torch.optim.SGD(p, 1e-2, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, 1e-3),
    "adamw amsgrad": lambda p: torch.optim.AdamW(p, 1e-3, amsgrad=True),
    "adamw foreach": lambda p: torch.optim.AdamW(p, 1e-3, foreach=True),
    "adamw fused": lambda p: torch.optim.AdamW(p, 1e-3, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 1e-3, momentum=0.9, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, 1e-3),
    "adadelta": lambda p: torch.optim.Adadelta(p),
    "adamax": lambda p: torch.optim.Adamax(p),
    "nadam": lambda p: torch.optim.NAdam(p),
    "radam": lambda p: torch.optim.RAdam(p),
    "asgd": lambda p: torch.optim.ASGD(p, 1e-2),
    "sgd fused": lambda p: torch.optim.SGD(p, 1e-2, momentum=0.9, fused=True),
    "adam amsgrad foreach": lambda p: torch.optim.Adam(p, 1e-3, amsgrad=True, foreach=True),
}
TIMM = [
    "adamw", "lamb", "lion", "adan", "nadamw", "laprop", "madgrad", "adabelief", "lookahead_adamw", "lars", "sgdp",
    "adafactorbv", "adopt", "mars", "muon", "novograd", "rmsproptf",
]  # fmt: skip


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv1d(2, 12, 3), nn.Tanh(), nn.Flatten(), nn.Linear(72, 10), nn.Linear(10, 10))


def build(name: str, parameters) -> torch.optim.Optimizer:
    if name in TORCH:
        return TORCH[name](parameters)
    return timm.optim.create_optimizer_v2(parameters, name, lr=1e-3)


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    x = torch.randn(16, 2, 8)
    loss = (model(x) - x.flatten(1)[:, :10]).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@pytest.mark.parametrize("name", [*TORCH, *TIMM])
@pytest.mark.filterwarnings("error")
def test_state_follows_the_weights(name):
    model = network()
    optimizer = build(name, model.parameters())
    oialr = OIALR(model, optimizer, delay=3, frequency=2, cutoff=0.5, step_fraction=1)
    holder = getattr(optimizer, "_base_optimizer", optimizer)
    for t in range(1, 9):
        step(model, optimizer)
        entries = {n: p for n, p in model.named_parameters() if p.requires_grad}
        before = {n: dict(holder.state[p]) for n, p in entries.items()}
        positions = [len(group["params"]) for group in optimizer.param_groups]
        oialr.step()
        grouped = {p for group in optimizer.param_groups for p in group["params"]}
        assert grouped == {p for p in model.parameters() if p.requires_grad}
        assert [len(group["params"]) for group in optimizer.param_groups] == positions
        for p in grouped:
            for key, value in holder.state[p].items():
                assert not isinstance(value, torch.Tensor) or value.shape in ((), p.shape), key
        if t == 3:
            for index in (0, 3):
                layer, old = model[index], before[f"{index}.weight"]
                restarted = type(holder) in (torch.optim.Adam, torch.optim.AdamW)
                for key, value in holder.state[layer.sigma].items():
                    if restarted and key == "step":
                        assert value == 1
                    elif restarted and key == "exp_avg":
                        rotated = layer.u.t() @ old[key].flatten(1) @ layer.vt.t()
                        torch.testing.assert_close(value / (1 - 0.9), rotated / (1 - 0.9**3))
                    elif not isinstance(value, torch.Tensor) or value.dim() == 0:
                        assert value == old[key]
                    elif key in ("exp_avg", "momentum_buffer", "grad_avg", "exp_avg_diff", "lookahead_slow_buff"):
                        rotated = layer.u.t() @ old[key].flatten(1).float() @ layer.vt.t()
                        torch.testing.assert_close(value, rotated.to(value.dtype))
                    elif "sq" in key:
                        assert (value >= 0).all()
    assert sum(oialr.ranks.values()) < 6 + 10 + 10


class FactorsInAList(torch.optim.SGD):
    """Keeps a matrix per dimension, as Kron and Shampoo do."""

    def step(self, closure=None):
        for parameter in self.param_groups[0]["params"]:
            factors = self.state[parameter].setdefault("Q", [torch.eye(size) for size in parameter.shape])
            assert [len(factor) for factor in factors] == list(parameter.shape)
        return super().step(closure)


@pytest.mark.parametrize("build", [timm.optim.Adafactor, torch.optim.Rprop, FactorsInAList])
def test_state_that_cannot_follow_starts_afresh_with_a_warning(build):
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 140), nn.Linear(140, 140), nn.Linear(140, 10))
    optimizer = build(model.parameters(), lr=1e-3)
    oialr = OIALR(model, optimizer, delay=1, frequency=2)
    step(model, optimizer)
    with pytest.warns(UserWarning, match=f"{type(optimizer).__name__}: .* cannot follow a change of basis"):
        oialr.step()
    assert model[2].sigma not in optimizer.state
    step(model, optimizer)
    assert model[2].sigma in optimizer.state


@pytest.mark.parametrize("build", [torch.optim.LBFGS, timm.optim.Adahessian])
def test_optimizers_that_cannot_work_are_refused_by_name(build):
    model = network()
    optimizer = build(model.parameters())
    with pytest.raises(TypeError, match=f"OIALR: the optimizer {build.__name__} .*; use another"):
        OIALR(model, optimizer, delay=1, frequency=1)
    assert isinstance(model[3], nn.Linear)


@pytest.mark.parametrize("plateau", [False, True])
def test_a_scheduler_reaches_sigma_after_a_resumed_change_over(plateau):
    """Schedulers hold the parameter groups, not the parameters."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    schedulers = torch.optim.lr_scheduler
    scheduler = (
        schedulers.ReduceLROnPlateau(optimizer, patience=0)
        if plateau
        else schedulers.OneCycleLR(optimizer, 0.1, total_steps=8)
    )
    oialr = OIALR(model, optimizer, delay=2, frequency=1)
    for _ in range(4):
        before = [model[3].get_parameter("sigma" if oialr.ranks else "weight").detach().clone()]
        step(model, optimizer)
        after = model[3].get_parameter("sigma" if oialr.ranks else "weight")
        assert not torch.equal(before[0], after)
        oialr.step()
        scheduler.step(1.0) if plateau else scheduler.step()
    (group,) = optimizer.param_groups
    assert group["lr"] != 0.1 and model[3].sigma in set(group["params"])


def test_groups_without_decay_and_schedulers_keep_working():
    model = network()
    biases = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": [p for p in model.parameters() if p.dim() > 1]}, {"params": biases, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.1, weight_decay=0.3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.1)
    oialr = OIALR(model, optimizer, delay=1, frequency=1)
    for _ in range(4):
        step(model, optimizer)
        oialr.step()
        scheduler.step()
    decayed, undecayed = optimizer.param_groups
    assert decayed["params"] == [model[0].sigma, model[3].sigma, model[4].sigma]
    assert all(a is b for a, b in zip(undecayed["params"], biases, strict=True))
    assert undecayed["weight_decay"] == 0 and decayed["weight_decay"] == 0.3
    assert decayed["lr"] == pytest.approx(0.001)


def test_weight_decay_on_sigma_is_the_weights_own_or_none():
    def norm_after(decay_sigma: bool) -> list[float]:
        model = nn.Sequential(nn.Linear(6, 6))
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0, weight_decay=0.1)
        oialr = OIALR(model, optimizer, delay=1, frequency=5, decay_sigma=decay_sigma)
        norms = []
        for _ in range(3):
            norms.append(model[0].weight.norm().item())
            (0 * model(torch.ones(1, 6)).sum()).backward()
            optimizer.step()
            oialr.step()
        return [norms[1] / norms[0], norms[2] / norms[1]]

    assert norm_after(True) == pytest.approx([0.9, 0.9])
    assert norm_after(False) == pytest.approx([0.9, 1.0])


def test_groups_are_not_split_behind_a_schedulers_back():
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1)
    torch.optim.lr_scheduler.StepLR(optimizer, 2)
    with pytest.raises(ValueError, match="build OIALR before the scheduler"):
        OIALR(model, optimizer, delay=1, frequency=1, decay_sigma=False)


def test_the_optimizer_holds_r_squared_numbers_per_layer():
    model = nn.Sequential(nn.Linear(20, 30, bias=False))
    optimizer = torch.optim.AdamW(model.parameters())
    oialr = OIALR(model, optimizer, delay=1, frequency=1, cutoff=0.5)
    for _ in range(2):
        model(torch.randn(4, 20)).sum().backward()
        optimizer.step()
        oialr.step()
    held = sum(v.numel() for s in optimizer.state.values() for v in s.values() if v.dim())
    assert held == 2 * oialr.ranks["0"] ** 2


def every_optimizer() -> dict:
    """All of torch and timm that train dense gradients on a CPU, and whose second order OIALR does not refuse."""
    left_out = {"Optimizer", "LBFGS", "SparseAdam", "Muon"}  # Muon takes matrices alone: test_optimizers.py
    found = {
        f"torch {name}": kind
        for name, kind in vars(torch.optim).items()
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and name not in left_out
    }
    needs_gpu = ("bnb", "fused")
    for name in timm.optim.list_optimizers():
        if name != "adahessian" and not name.startswith(needs_gpu):
            found[f"timm {name}"] = lambda p, lr, name=name: timm.optim.create_optimizer_v2(p, name, lr=lr)
    found["torch RMSprop centered"] = lambda p, lr: torch.optim.RMSprop(p, lr, momentum=0.9, centered=True)
    found["torch Adam amsgrad"] = lambda p, lr: torch.optim.Adam(p, lr, amsgrad=True)
    found["unknown names"] = UnknownNames
    return found


class UnknownNames(torch.optim.Adam):
    """State in the shape of the weights under names of its own, as bitsandbytes has."""

    def step(self, closure=None):
        for state in self.state.values():
            if "state2" in state:
                state["exp_avg"], state["exp_avg_sq"] = state.pop("state1"), state.pop("state2")
        super().step(closure)
        for state in self.state.values():
            state["state1"], state["state2"] = state.pop("exp_avg"), state.pop("exp_avg_sq")


@pytest.mark.parametrize("delay", [3, 30])
@pytest.mark.parametrize("name", every_optimizer())
@pytest.mark.filterwarnings("ignore")
def test_every_optimizer_stays_finite_and_goes_on_learning(name, delay, monkeypatch):
    """The loss after the change-over stays below what it was at the start, as the dense training's does."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 6))
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)  # Kron's
    optimizer = every_optimizer()[name](model.parameters(), lr=1e-3)
    oialr = OIALR(model, optimizer, delay=delay, frequency=4, cutoff=0.05, step_fraction=1)
    losses = []
    for _ in range(delay + 12):
        x = torch.randn(64, 6)
        loss = (model(x) - x.roll(1, 1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        oialr.step()
        losses.append(loss.item())
    assert oialr.ranks and all(torch.isfinite(p).all() for p in model.parameters())
    assert max(losses[delay:]) < 1.3 * max(losses[:delay])


@pytest.mark.parametrize("delay", [3, 20, 60])
def test_centred_second_moments_stay_above_the_square_of_the_mean(delay):
    model = network()
    optimizer = torch.optim.RMSprop(model.parameters(), 1e-4, centered=True)
    oialr = OIALR(model, optimizer, delay=delay, frequency=5, cutoff=0.1, step_fraction=1)
    x = torch.randn(16, 2, 8)  # the same batch: gradients hardly vary, so that v is hardly above g * g
    for _ in range(delay + 11):
        optimizer.zero_grad()
        (model(x) - x.flatten(1)[:, :10]).square().mean().backward()
        optimizer.step()
        oialr.step()
        for p in oialr.model.parameters():
            if p.requires_grad and p.dim() == 2:
                state = optimizer.state[p]
                assert (state["square_avg"] >= state["grad_avg"].square()).all()
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_state_of_unknown_names_starts_afresh_with_one_warning():
    model = network()
    optimizer = UnknownNames(model.parameters(), lr=1e-3)
    oialr = OIALR(model, optimizer, delay=1, frequency=1, cutoff=0.5, step_fraction=1)
    step(model, optimizer)
    with pytest.warns(UserWarning) as caught:
        oialr.step()
        step(model, optimizer)
        oialr.step()
    assert [str(w.message) for w in caught] == [
        "UnknownNames: 'state1' cannot follow a change of basis; the state of low-rank weights starts afresh"
    ]
    assert model[3].sigma not in optimizer.state and "state1" in optimizer.state[model[3].bias]
