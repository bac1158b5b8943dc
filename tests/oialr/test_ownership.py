"""What the user did to a network stays: hooks, freezing, modes, references; what cannot stay is refused beforehand."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils import checkpoint

from oialr_hpo.oialr import OIALR, merge, plan
from oialr_hpo.oialr.layers import LowRank


def mlp(width: int = 12) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width)
    )


def train(model, optimizer, oialr, steps: int = 1) -> None:
    for _ in range(steps):
        loss = (model(torch.randn(8, 12)) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        oialr.step()


def started(model: nn.Module, **settings) -> tuple[torch.optim.Optimizer, OIALR]:
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    return optimizer, OIALR(
        model, optimizer, **{"delay": 2, "frequency": 2, "cutoff": 0.3, "step_fraction": 1.0, **settings}
    )


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("kind", ["linear", "convolution", "attention", "lstm"])
def test_hooks_of_every_kind_fire_as_before_converted_and_merged(kind, full):
    model, x = {
        "linear": lambda: (nn.Sequential(nn.Linear(6, 6)), torch.randn(3, 6)),
        "convolution": lambda: (nn.Sequential(nn.Conv2d(3, 5, 3)), torch.randn(2, 3, 6, 6)),
        "attention": lambda: (nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0), torch.randn(4, 2, 6)),
        "lstm": lambda: (nn.Sequential(nn.LSTM(6, 6)), torch.randn(4, 2, 6)),
    }[kind]()
    layer, fired = (model.self_attn if kind == "attention" else model[0]), []
    layer.register_forward_pre_hook(lambda *a: fired.append("forward pre"))
    layer.register_forward_pre_hook(lambda *a: fired.append("keywords pre"), with_kwargs=True)
    layer.register_forward_hook(lambda *a: fired.append("forward"))
    layer.register_forward_hook(lambda *a, **k: fired.append("keywords"), with_kwargs=True)
    layer.register_forward_hook(lambda *a: fired.append("always"), always_call=True)
    if full:
        layer.register_full_backward_pre_hook(lambda *a: fired.append("backward pre"))
        layer.register_full_backward_hook(lambda module, dx, dy: fired.append(f"backward of {len(dx)}, {len(dy)}"))
    elif kind in ("linear", "convolution"):
        layer.register_backward_hook(lambda *a: fired.append("backward of old"))
    layer.register_state_dict_pre_hook(lambda *a: fired.append("saving"))
    layer.register_state_dict_post_hook(lambda *a: fired.append("saved"))
    layer.register_load_state_dict_pre_hook(lambda *a: fired.append("loading"))
    layer.register_load_state_dict_post_hook(lambda *a: fired.append("loaded"))
    removed = layer.register_forward_hook(lambda *a: fired.append("removed"))

    def everything() -> list[str]:
        fired.clear()
        y = model(x.clone().requires_grad_())
        (y if isinstance(y, torch.Tensor) else y[0]).sum().backward()
        model.load_state_dict(model.state_dict())
        return [each for each in fired if each != "removed"]

    dense = everything()
    oialr = OIALR(model, delay=0, frequency=1, cutoff=0.6, step_fraction=1.0)
    oialr.step()
    assert everything() == dense and "removed" in fired
    removed.remove()
    everything()
    assert "removed" not in fired
    oialr.merge()
    assert everything() == dense


def test_a_network_that_also_holds_its_layers_in_a_plain_list_uses_the_converted_ones():
    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(12, 12), nn.Linear(12, 12)
            self.path = [self.first, self.last]
            self.first.label = "a note of the user's"

        def forward(self, x):
            for layer in self.path:
                x = layer(x)
            return x

    model = Listed()
    first = model.first
    optimizer, oialr = started(model)
    train(model, optimizer, oialr, 3)
    assert isinstance(model.path[0], LowRank) and model.path[0] is first is model.first
    assert first.label == "a note of the user's" and first.sigma.grad is not None
    assert first.in_features == 12 and "rank=" in repr(first)
    oialr.merge()
    assert not isinstance(model.path[0], LowRank) and model.first.label == "a note of the user's"


def test_a_layer_frozen_before_the_change_over_stays_dense_and_one_unfrozen_is_converted():
    model = mlp()
    model[0].requires_grad_(False)
    optimizer, oialr = started(model)
    model[0].requires_grad_(True)
    model[2].requires_grad_(False)
    frozen = model[2].weight.clone()
    train(model, optimizer, oialr, 6)
    assert list(oialr.ranks) == ["0", "4"]
    assert {layer.name: layer.reason for layer in oialr.report}["2"] == "frozen"
    assert torch.equal(model[2].weight, frozen)
    saved = [part.state_dict() for part in (oialr, model, optimizer)]
    again = mlp()
    optimizer, resumed = started(again)
    for part, state in zip((resumed, again, optimizer), saved, strict=True):
        part.load_state_dict(state)
    assert resumed.ranks == oialr.ranks
    torch.testing.assert_close(again(torch.ones(2, 12)), model(torch.ones(2, 12)))


def test_a_layer_frozen_in_low_rank_stays_as_it_is_through_updates_and_merge():
    model = mlp()
    optimizer, oialr = started(model)
    train(model, optimizer, oialr, 2)
    model[2].sigma.requires_grad_(False)
    weight, rank = model[2].weight.clone(), model[2].rank
    train(model, optimizer, oialr, 4)
    assert torch.equal(model[2].weight, weight) and model[2].rank == rank
    assert not model[2].sigma.requires_grad and model[0].sigma.requires_grad
    model[2].sigma.requires_grad_(True)
    train(model, optimizer, oialr, 2)
    assert not torch.equal(model[2].weight, weight)
    model[2].sigma.requires_grad_(False)
    merged = oialr.merge()
    assert {p.requires_grad for name, p in merged.named_parameters() if name.startswith("2.") and p.dim() > 1} == {
        False
    }
    assert all(p.requires_grad for name, p in merged.named_parameters() if not name.startswith("2."))


def test_unfreezing_the_whole_network_leaves_the_bases_frozen():
    model = mlp()
    optimizer, oialr = started(model, frequency=100)
    train(model, optimizer, oialr, 3)
    share, u = oialr.trainable_percent, model[0].u.clone()
    model.requires_grad_(False)
    assert oialr.trainable_percent == 0
    model.requires_grad_(True)
    train(model, optimizer, oialr, 2)
    assert oialr.trainable_percent == share and torch.equal(model[0].u, u) and model[0].u.grad is None


def test_all_frozen_before_the_change_over_is_said_and_training_goes_on():
    model = mlp()
    optimizer, oialr = started(model)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with pytest.warns(UserWarning, match="every weight was frozen"):
        for _ in range(3):
            optimizer.step(), oialr.step()
    assert oialr.ranks == {}


@pytest.mark.parametrize("inference", [torch.inference_mode, torch.no_grad])
def test_evaluation_under_autocast_leaves_training_as_it_was(inference):
    model = mlp()
    optimizer, oialr = started(model, delay=0, frequency=3)
    x = torch.randn(8, 12)
    for step in range(7):
        with inference(), torch.autocast("cpu", torch.bfloat16):
            model(x)
            model(torch.randn(400, 12))
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(x).float().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with inference():
            oialr.step()
        assert all(layer.sigma.grad is not None for layer in model[::2]) or step % 3 == 2
    assert min(oialr.ranks.values()) < 12


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_converting_loading_and_merging_without_gradients_gives_networks_that_train(mode):
    model = mlp()
    with mode():
        optimizer, oialr = started(model, delay=0)
        oialr.step(), oialr.step()
    train(model, optimizer, oialr, 3)
    again = mlp()
    with mode():
        second, resumed = started(again)
        resumed.load_state_dict(oialr.state_dict())
        again.load_state_dict(model.state_dict())
    train(again, second, resumed, 3)
    with mode(), torch.autocast("cpu", torch.bfloat16):
        merged = merge(model)
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.float32}
    merged(torch.randn(4, 12)).sum().backward()
    assert all(parameter.grad is not None for parameter in merged.parameters())


@pytest.mark.parametrize(("m", "n", "rank"), [(12, 4, 0), (4, 12, 0), (12, 12, 0), (12, 12, 3), (16, 6, 2), (6, 16, 5)])
def test_a_weight_without_full_rank_can_move_in_all_its_rows_and_columns(m, n, rank):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(n, m, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.randn(m, rank) @ torch.randn(rank, n))
    before = model[0].weight.detach().clone()
    state = torch.random.get_rng_state()
    OIALR(model, delay=0, frequency=10)
    assert torch.equal(state, torch.random.get_rng_state())
    layer = model[0]
    torch.testing.assert_close(layer.weight, before, rtol=1e-4, atol=1e-5)
    identity = torch.eye(min(m, n))
    torch.testing.assert_close(layer.u.t() @ layer.u, identity, rtol=0, atol=1e-5)
    torch.testing.assert_close(layer.vt @ layer.vt.t(), identity, rtol=0, atol=1e-5)
    with torch.no_grad():
        layer.sigma.sub_(0.1 * layer.u.t() @ torch.randn(m, n) @ layer.vt.t())
    moved = (layer.weight - before).abs() > 1e-4
    assert moved.any(1).all() and moved.any(0).all()


def test_conversion_is_all_or_nothing():
    model = nn.ModuleDict({"attention": nn.MultiheadAttention(8, 2), "lstm": nn.LSTM(8, 8), "head": nn.Linear(8, 8)})
    optimizer, oialr = started(model, delay=1)
    kinds, keys = [type(module) for module in model.modules()], list(model.state_dict())
    model["head"].weight.data[0, 0] = torch.inf
    groups = [id(parameter) for parameter in optimizer.param_groups[0]["params"]]
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    with pytest.raises(FloatingPointError, match="layer 'head'"):
        oialr.step()
    assert [type(module) for module in model.modules()] == kinds and list(model.state_dict()) == keys
    assert [id(parameter) for parameter in optimizer.param_groups[0]["params"]] == groups


def test_attention_that_is_to_be_causal_without_a_mask_is_refused_as_by_torch():
    model = nn.Sequential(nn.MultiheadAttention(8, 2))
    x = torch.randn(5, 1, 8)
    for wanted in (True, False):
        with pytest.raises(RuntimeError) as dense:
            model[0](x, x, x, is_causal=True, need_weights=wanted)
    OIALR(model, delay=0, frequency=1)
    for wanted in (True, False):
        with pytest.raises(RuntimeError, match=str(dense.value).split(".")[0]):
            model[0](x, x, x, is_causal=True, need_weights=wanted)


def test_a_distributed_wrapper_keeps_its_hooks_and_its_mode(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model, fired = DistributedDataParallel(mlp()), []
        model.register_forward_pre_hook(lambda *a: fired.append("pre"))
        model.register_full_backward_hook(lambda *a: fired.append("backward"))
        optimizer, oialr = started(model)
        train(model, optimizer, oialr, 1)
        expected = list(fired)
        train(model, optimizer, oialr, 1)
        fired.clear()
        train(model, optimizer, oialr, 1)
        assert fired == expected and model.training
        model.eval()
        train(model, optimizer, oialr, 1)
        assert not model.training and not model.module.training and oialr.ranks
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("rows", [2, 500])
@pytest.mark.parametrize("kind", ["linear", "convolution", "transposed"])
def test_transforms_of_torch_func_agree_with_the_dense_network(kind, rows):
    torch.manual_seed(0)
    layer, shape = {
        "linear": (nn.Linear(10, 16), (rows, 10)),
        "convolution": (nn.Conv2d(3, 16, 3), (max(rows // 100, 1), 3, 8, 8)),
        "transposed": (nn.ConvTranspose1d(16, 3, 3), (max(rows // 50, 1), 16, 8)),
    }[kind]
    model = nn.Sequential(layer).double()
    oialr = OIALR(model, delay=0, frequency=1, cutoff=0.4, step_fraction=1.0)
    oialr.step()
    dense = merge(copy.deepcopy(model))
    if isinstance(dense[0], nn.Sequential):
        assert dense[0].weight.shape == model[0].weight.shape
    x, direction = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    weights = dict(model.named_parameters())

    def loss(parameters):
        return torch.func.functional_call(model, parameters, (x,)).square().mean()

    gradients = torch.func.grad(loss)(weights)
    model(x).square().mean().backward()
    torch.testing.assert_close(gradients["0.sigma"], model[0].sigma.grad)
    torch.testing.assert_close(gradients["0.bias"], model[0].bias.grad)
    y, tangent = torch.func.jvp(model, (x,), (direction,))
    expected, expected_tangent = torch.func.jvp(dense, (x,), (direction,))
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(tangent, expected_tangent)
    per_sample = torch.func.vmap(lambda one: model(one.unsqueeze(0)).squeeze(0))(x)
    torch.testing.assert_close(per_sample, model(x))
    jacobian = torch.func.jacrev(lambda one: model(one.unsqueeze(0)).sum())(x[0])
    torch.testing.assert_close(jacobian, torch.func.jacrev(lambda one: dense(one.unsqueeze(0)).sum())(x[0]))


def test_networks_on_the_meta_device_are_planned_and_refused():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(4, 4))
    assert [layer.reason for layer in plan(model)] == [""]
    with pytest.raises(ValueError, match="'0.weight' is on the meta device"):
        OIALR(model, delay=0, frequency=1)


@pytest.mark.parametrize("reentrant", [True, False])
def test_layers_work_under_gradient_checkpointing_and_by_keyword(reentrant):
    torch.manual_seed(0)
    model = nn.ModuleList([nn.Linear(12, 12), nn.Conv1d(3, 8, 3), nn.ConvTranspose1d(8, 3, 3), nn.LSTM(6, 6)])
    oialr = OIALR(model, delay=0, frequency=1, cutoff=0.5, step_fraction=1.0)
    oialr.step()

    def forward(x):
        x = model[2](input=model[1](input=model[0](input=x)), output_size=None)
        return model[3](x[..., :6], hx=None)[0]

    gradients = []
    for run in (forward, lambda x: checkpoint.checkpoint(forward, x, use_reentrant=reentrant)):
        model.zero_grad()
        run(torch.ones(2, 3, 12, requires_grad=True)).square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.requires_grad])
    torch.testing.assert_close(*gradients)


def test_a_network_compiled_before_the_change_over_is_compiled_anew():
    torch._dynamo.reset()
    model = mlp()
    compiled = torch.compile(model, backend="eager")
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    oialr = OIALR(compiled, optimizer, delay=2, frequency=2, cutoff=0.3, step_fraction=1.0)
    train(compiled, optimizer, oialr, 5)
    x = torch.randn(4, 12)
    torch.testing.assert_close(compiled(x), model(x))
    assert min(oialr.ranks.values()) < 12 and model[0].sigma.grad is not None
