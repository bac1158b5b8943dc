"""Several optimizers, wrapped ones, and steps that were not made."""

import warnings

import pytest
import timm.optim
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.optim import ZeroRedundancyOptimizer

from oialr_hpo.oialr import OIALR
from oialr_hpo.oialr.layers import LowRank


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 8))


def loss_of(model: nn.Module) -> torch.Tensor:
    x = torch.randn(16, 8)
    return (model(x) - x.roll(1, 1)).square().mean()


def backward(model: nn.Module) -> None:
    loss_of(model).backward()


def step(model: nn.Module, *optimizers) -> None:
    backward(model)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()


@pytest.fixture
def one_process():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def parameters_in(*optimizers) -> set:
    return {p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}


def every_sigma_moves(model: nn.Module, take_step) -> bool:
    layers = [module for module in model.modules() if isinstance(module, LowRank)]
    before = [layer.sigma.detach().clone() for layer in layers]
    take_step()
    return all(not torch.equal(layer.sigma, old) for layer, old in zip(layers, before, strict=True))


muons = {"timm": lambda p, lr, decay: timm.optim.create_optimizer_v2(p, "muon", lr=lr, weight_decay=decay)}
if hasattr(torch.optim, "Muon"):
    muons["torch"] = lambda p, lr, decay: torch.optim.Muon(p, lr, decay)


@pytest.mark.parametrize("delay", [0, 2])
@pytest.mark.parametrize("decay_sigma", [True, False])
@pytest.mark.parametrize("kind", muons)
def test_several_optimizers(kind, delay, decay_sigma):
    model = network()
    matrices = [p for p in model.parameters() if p.dim() > 1]
    muon = muons[kind](matrices[:2], 1e-2, 0.1)
    rest = torch.optim.AdamW([matrices[2], *(p for p in model.parameters() if p.dim() < 2)], 1e-2)
    oialr = OIALR(model, [muon, rest], delay=delay, frequency=2, cutoff=0.3, step_fraction=1, decay_sigma=decay_sigma)
    for _ in range(6):
        step(model, muon, rest)
        oialr.step()
    assert oialr.steps == 6 and oialr.updates == 2 + (delay == 0)
    assert parameters_in(muon) == {model[0].sigma, model[2].sigma}
    assert parameters_in(muon, rest) == {p for p in model.parameters() if p.requires_grad}
    decays = [group["weight_decay"] for group in muon.param_groups if group["params"]]
    assert decays == ([0.1] if decay_sigma else [0.0])
    assert every_sigma_moves(model, lambda: step(model, muon, rest))


def test_a_weight_in_no_optimizer_stays_dense_and_is_named():
    model = network()
    optimizer = torch.optim.AdamW([*model[0].parameters(), *model[4].parameters()], 1e-2)
    with pytest.warns(UserWarning, match=r"no optimizer holds the weights of 1 layers \('2'\), which stay dense"):
        oialr = OIALR(model, optimizer, delay=1, frequency=1)
    step(model, optimizer)
    oialr.step()
    assert list(oialr.ranks) == ["0", "4"] and type(model[2]) is nn.Linear
    assert [layer.reason for layer in oialr.report] == ["", "in no optimizer", ""]
    with pytest.warns(UserWarning, match="no optimizer holds"), pytest.raises(ValueError, match="no layer to convert"):
        OIALR(network(), torch.optim.SGD([nn.Parameter(torch.ones(1))]), delay=1, frequency=1)


def test_a_weight_that_left_its_optimizer_before_the_change_over_stays_dense():
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    oialr = OIALR(model, optimizer, delay=1, frequency=1)
    model[2].weight = nn.Parameter(model[2].weight.detach().clone())
    step(model, optimizer)
    with pytest.warns(UserWarning, match=r"\('2'\)"):
        oialr.step()
    assert list(oialr.ranks) == ["0", "4"]


def test_without_an_optimizer_it_says_that_nothing_trains_sigma():
    model = network()
    oialr = OIALR(model, delay=0, frequency=2)
    oialr.step()
    with pytest.warns(UserWarning, match="OIALR has no optimizer"):
        oialr.step()


def test_weights_with_gradient_hooks_stay_dense():
    """A tensor's hook sees gradients of W's shape; an optimizer stepped from one holds W."""
    model = network()
    small = {p: torch.optim.SGD([p], 1e-2) for p in model[0].parameters()}

    def step_at_once(parameter: torch.Tensor) -> None:
        small[parameter].step()
        small[parameter].zero_grad()

    for parameter in small:
        parameter.register_post_accumulate_grad_hook(step_at_once)
    seen = []
    model[4].weight.register_hook(lambda gradient: seen.append(gradient.shape))
    rest = torch.optim.SGD([p for layer in model[2:] for p in layer.parameters()], 1e-2)
    oialr = OIALR(model, [rest, *small.values()], delay=2, frequency=1)
    for _ in range(4):
        before = model[0].weight.detach().clone()
        step(model, rest)
        oialr.step()
        assert not torch.equal(model[0].weight, before)
    assert list(oialr.ranks) == ["2"] and seen == [(8, 16)] * 4
    assert "gradient hooks on its weight" in str(oialr.report)


def test_gradient_hooks_of_sigma_go_on_after_updates():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 1e-2)
    oialr = OIALR(model, optimizer, delay=0, frequency=1, cutoff=0.3, step_fraction=1)
    seen, accumulated = [], []
    hook = model[2].sigma.register_hook(lambda gradient: seen.append(gradient.shape[0]))
    model[2].sigma.register_post_accumulate_grad_hook(lambda p: accumulated.append(p.grad.shape[0]))
    ranks = []
    for _ in range(3):
        ranks.append(oialr.ranks["2"])
        step(model, optimizer)
        oialr.step()
    assert seen == accumulated == ranks and ranks[-1] < 16
    hook.remove()
    step(model, optimizer)
    assert len(seen) == 3 and len(accumulated) == 4


def test_optimizers_applied_in_backward_keep_their_layers_dense():
    from torch.distributed.optim import _apply_optimizer_in_backward

    model = network()
    _apply_optimizer_in_backward(torch.optim.SGD, model[0].parameters(), {"lr": 0.01})
    rest = torch.optim.SGD([p for layer in model[2:] for p in layer.parameters()], 0.01)
    assert list(OIALR(model, rest, delay=0, frequency=1).ranks) == ["2", "4"]


class SAM(torch.optim.Optimizer):
    """Sharpness-aware minimization as its usual implementation does it: around a base optimizer."""

    def __init__(self, params, base, **options):
        super().__init__(params, options)
        self.base_optimizer = base(self.param_groups, **options)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def step(self, closure):
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["old_p"] = p.data.clone()
                p.add_(p.grad, alpha=0.05)
        self.zero_grad()
        with torch.enable_grad():
            closure()
        for group in self.param_groups:
            for p in group["params"]:
                p.data = self.state[p]["old_p"]
        self.base_optimizer.step()


class Holder:
    """No Optimizer itself, as Noam's and accelerate-like wrappers."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    def step(self, *closure):
        self.optimizer.step(*closure)

    def zero_grad(self):
        self.optimizer.zero_grad()


class Delegating(Holder, torch.optim.Optimizer):
    """accelerate's AcceleratedOptimizer: an Optimizer that hands everything on."""

    @property
    def param_groups(self):
        return self.optimizer.param_groups

    @property
    def state(self):
        return self.optimizer.state


WRAPPERS = {
    "SAM": lambda p: SAM(p, torch.optim.SGD, lr=1e-2, momentum=0.9),
    "Lookahead": lambda p: timm.optim.Lookahead(torch.optim.AdamW(p, 1e-2), k=2),
    "holder": lambda p: Holder(torch.optim.AdamW(p, 1e-2)),
    "delegating": lambda p: Delegating(torch.optim.AdamW(p, 1e-2)),
    "holder of SAM": lambda p: Holder(SAM(p, torch.optim.AdamW, lr=1e-2)),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.filterwarnings("error")
def test_wrappers_are_followed(wrapper):
    model = network()
    optimizer = WRAPPERS[wrapper](model.parameters())
    oialr = OIALR(model, optimizer, delay=2, frequency=2, cutoff=0.3, step_fraction=1)

    def take_step():
        backward(model)
        optimizer.step(*[lambda: backward(model)] * ("SAM" in wrapper))
        optimizer.zero_grad()

    for _ in range(7):
        take_step()
        oialr.step()
    assert oialr.steps == 7 and max(oialr.ranks.values()) < 16
    assert every_sigma_moves(model, take_step)
    inner = optimizer
    while inner is not None:
        trained = {p for p in model.parameters() if p.requires_grad}
        if hasattr(inner, "state"):
            assert parameters_in(inner) == trained and set(inner.state) <= trained
        inner = next((value for value in vars(inner).values() if isinstance(value, torch.optim.Optimizer)), None)


class SlowWeights(torch.optim.SGD):
    """Keeps copies where nobody looks for them."""

    def __init__(self, params, lr):
        super().__init__(params, lr)
        self.slow = [[p.detach().clone() for p in group["params"]] for group in self.param_groups]


def test_optimizers_that_cannot_follow_are_refused_in_one_line(one_process):
    for build, message in {
        lambda p: ZeroRedundancyOptimizer(p, torch.optim.SGD, lr=0.1): "ZeroRedundancyOptimizer spreads its state",
        lambda p: torch.optim.LBFGS(p): "LBFGS keeps a history",
        lambda p: Holder(torch.optim.LBFGS(p)): "LBFGS keeps a history",
        lambda p: SlowWeights(p, 0.1): "SlowWeights keeps weights in its attribute 'slow'",
        lambda p: object(): "object is no torch.optim.Optimizer",
        lambda p: [*p]: "Parameter is no torch.optim.Optimizer",
    }.items():
        model = network()
        with pytest.raises(TypeError, match=f"OIALR: .*{message}") as error:
            OIALR(model, build(model.parameters()), delay=1, frequency=1)
        assert len(str(error.value)) < 300 and "\n" not in str(error.value)
        assert isinstance(model[0], nn.Linear)


def test_networks_spread_over_processes_are_refused(one_process):
    from torch.distributed.fsdp import FullyShardedDataParallel

    try:
        from torch.distributed.fsdp import fully_shard
    except ImportError:  # torch 2.5
        from torch.distributed._composable.fsdp import fully_shard

    mesh = dist.init_device_mesh("cpu", (1,))
    whole = network()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spread = [FullyShardedDataParallel(network(), device_id=torch.device("cpu")), fully_shard(whole, mesh=mesh)]
    for model in spread:
        with pytest.raises(TypeError, match="OIALR: .* spreads? .* over processes"):
            OIALR(model, delay=1, frequency=1)


@pytest.mark.parametrize("fused", [False, True])
def test_skipped_steps_are_not_counted_and_do_not_disturb_the_change_over(fused):
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    oialr = OIALR(model, optimizer, delay=3, frequency=2, cutoff=0.2, step_fraction=1)
    counted = []
    for overflow in (True, True, True, False, True, False, False, True, False):
        optimizer.zero_grad()
        scaler.scale(loss_of(model) * (float("inf") if overflow else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()
        oialr.step()
        counted.append(oialr.steps)
        assert bool(oialr.ranks) == (counted[-1] >= 3)
    assert counted == [0, 0, 0, 1, 1, 2, 3, 3, 4]
    assert oialr.updates == 1
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_a_change_over_before_any_real_step_leaves_finite_states():
    """A fused step that was skipped leaves moments and `step` at zero."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2, fused=True)
    backward(model)
    optimizer.found_inf, optimizer.grad_scale = torch.tensor(1.0), torch.tensor(1.0)
    optimizer.step()
    del optimizer.found_inf, optimizer.grad_scale
    optimizer.zero_grad()
    oialr = OIALR(model, optimizer, delay=0, frequency=1)
    for _ in range(2):
        step(model, optimizer)
        oialr.step()
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_an_optimizer_that_does_not_train_is_said():
    model = network()
    optimizer, other = (torch.optim.SGD(model.parameters(), 1e-2) for _ in range(2))
    oialr = OIALR(model, optimizer, delay=2, frequency=1)
    with pytest.warns(UserWarning, match=r"counts the steps of SGD, which made none in 10 calls"):
        for _ in range(10):
            step(model, other)
            oialr.step()
    assert oialr.ranks == {}
