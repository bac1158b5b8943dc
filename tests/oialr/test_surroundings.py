"""What surrounds a network changes nothing: autocast, inference mode, copies, other names, additions of the user's."""

import copy
import io

import pytest
import safetensors.torch
import torch
from timm.utils import ModelEmaV3
from torch import nn
from torch.nn.utils import prune

from oialr_hpo.oialr import OIALR, load_low_rank, merge
from oialr_hpo.oialr.layers import LowRank


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 4))


def train(model, optimizer, oialr, steps, after=lambda: None):
    x = torch.randn(8, 12, generator=torch.Generator().manual_seed(1))
    for _ in range(steps):
        model(x).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        oialr.step()
        after()


def drop_to(rank: int, *layers: LowRank) -> None:
    with torch.no_grad():
        for layer in layers:
            layer.sigma[rank:] = layer.sigma[:, rank:] = 0


@pytest.mark.parametrize("zero", [False, True])
def test_weights_change_their_bases_exactly_under_autocast(zero):
    model, x = network(), torch.randn(8, 12)
    average = copy.deepcopy(model)
    if zero:
        nn.init.zeros_(model[4].weight)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    oialr = OIALR(model, optimizer, delay=1, frequency=1, cutoff=0.0, step_fraction=1.0, averages=[average])
    expected = average(x)
    for _ in range(3):
        model(x).square().sum().backward()
        optimizer.step()
        before = model(x)
        with torch.autocast("cpu", torch.bfloat16):
            oialr.step()
        torch.testing.assert_close(model(x), before, rtol=1e-4, atol=1e-4)
    for layer in (model[0], model[2], model[4]):
        for basis in (layer.u.t(), layer.vt):
            torch.testing.assert_close(basis @ basis.t(), torch.eye(layer.rank), rtol=0, atol=1e-4)
    torch.testing.assert_close(average[:2](x), nn.functional.linear(x, average[0].weight, average[0].bias).tanh())
    assert expected.shape == average(x).shape


def test_a_merged_state_loaded_in_inference_mode_gives_a_network_that_trains():
    model = network()
    oialr = OIALR(model, delay=1, frequency=1, cutoff=0.01, step_fraction=1.0)
    with pytest.warns(UserWarning, match="no optimizer"):
        oialr.step()
        drop_to(2, model[0], model[2], model[4])
        oialr.step()
    x, state, loaded = torch.randn(3, 12), oialr.merge().state_dict(), network()
    with torch.inference_mode():
        load_low_rank(loaded, state)
        torch.testing.assert_close(load_low_rank(network(), state)(x), model(x))  # made there, to stay there
    loaded(x).sum().backward()
    torch.testing.assert_close(loaded(x), model(x))
    assert loaded[0].down.weight.grad is not None


def test_averages_follow_in_inference_mode():
    model = network()
    average, optimizer = ModelEmaV3(model), torch.optim.SGD(model.parameters(), 0.01)
    oialr = OIALR(model, optimizer, delay=1, frequency=1, cutoff=0.2, step_fraction=1.0, averages=[average])
    with torch.inference_mode():
        model(torch.randn(2, 12))
    for _ in range(3):
        model(torch.randn(2, 12)).sum().backward()
        optimizer.step()
        with torch.inference_mode():
            oialr.step()
            average.update(model)
    average.update(model)
    assert not any(parameter.is_inference() for parameter in average.parameters())


@pytest.mark.parametrize("through", ["deepcopy", "file"])
def test_a_copied_training_goes_on_counting(through):
    model = network()
    optimizer = torch.optim.AdamW(model.parameters())
    everything = model, optimizer, OIALR(model, optimizer, delay=2, frequency=1)
    train(*everything, steps=1)
    if through == "deepcopy":
        model, optimizer, oialr = copy.deepcopy(everything)
    else:
        file = io.BytesIO()
        torch.save(everything, file)
        file.seek(0)
        model, optimizer, oialr = torch.load(file, weights_only=False)
    train(model, optimizer, oialr, steps=2)
    train(*everything, steps=2)
    assert oialr.steps == 3
    for ours, theirs in zip(model.parameters(), everything[0].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("change", ["a graph of torch.fx", "parts compiled later"])
def test_averages_of_networks_with_other_classes_or_names(change):
    model: nn.Module = network()
    model = torch.fx.symbolic_trace(model) if change.startswith("a graph") else model
    average = ModelEmaV3(model, decay=0.0)
    if change.startswith("parts"):
        model[2] = torch.compile(model[2], backend="eager")
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    oialr = OIALR(model, optimizer, delay=1, frequency=1, cutoff=0.2, step_fraction=1.0)
    train(model, optimizer, oialr, 3, lambda: average.update(model))
    x = torch.randn(3, 12)
    torch.testing.assert_close(average.module(x), model(x))


class Shared(nn.Module):
    """One module under two names, a container too."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.b = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
        self.a, self.head = self.b, nn.Linear(8, 8)
        self.c = self.b[0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.c(self.a(self.b(x))))


@pytest.mark.parametrize("merged", [False, True])
def test_a_module_under_two_names_is_stored_once(tmp_path, merged):
    model = Shared()
    oialr = OIALR(model, delay=0, frequency=1)
    if merged:
        oialr.merge()
    safetensors.torch.save_model(model, tmp_path / "weights")
    loaded = load_low_rank(Shared(), safetensors.torch.load_file(tmp_path / "weights"))
    x = torch.randn(2, 8)
    torch.testing.assert_close(loaded(x), model(x))


def test_what_a_user_added_to_a_layer_stays():
    model = network()
    model[0].register_buffer("mask", torch.arange(12.0), persistent=False)
    model[0].gain = nn.Parameter(torch.tensor(2.0))
    model[0].inner, model[0].tag = nn.Linear(4, 4), "first"
    model[0].register_forward_pre_hook(lambda layer, inputs: (inputs[0] * layer.mask * layer.gain,))
    x = torch.randn(3, 12)
    expected, keys = model(x), {"0.gain", "0.inner.weight", "0.inner.bias"}
    oialr = OIALR(model, delay=0, frequency=1, exclude=["*inner"])
    torch.testing.assert_close(model(x), expected)
    model[0].tag = "changed"
    drop_to(2, model[0])
    for rank_is_low in (False, True):
        assert model.state_dict().keys() >= keys and "0.mask" not in model.state_dict()
        if not rank_is_low:
            merge(model)
    assert (model[0].tag, model[0].in_features) == ("changed", 12)
    assert oialr.report[0].name == "0"


def test_an_attention_layer_keeps_what_a_user_added():
    model = nn.ModuleList([nn.MultiheadAttention(8, 2)])
    model[0].tag, model[0].gain = "first", nn.Parameter(torch.ones(1))
    OIALR(model, delay=0, frequency=1)
    assert (model[0].tag, model[0].embed_dim) == ("first", 8) and "0.gain" in model.state_dict()


class Ties(nn.Module):
    """Matrices shared between layers of all kinds."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = (nn.MultiheadAttention(8, 2, batch_first=True) for _ in range(2))
        self.middle, self.head = nn.Linear(8, 8), nn.Linear(8, 24, bias=False)
        self.gru = nn.GRU(8, 8, 2, batch_first=True)
        self.b.in_proj_weight = self.a.in_proj_weight
        self.middle.weight, self.head.weight = self.a.out_proj.weight, self.gru.weight_ih_l0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for attention in (self.a, self.b):
            x = x + attention(x, x, x)[0]
        return self.head(self.gru(self.middle(x))[0])


@pytest.mark.parametrize("rank", [8, 2])
def test_matrices_shared_between_kinds_of_layers(rank):
    model, x = Ties().double(), torch.randn(2, 4, 8, dtype=torch.float64)
    expected = model(x)
    torch.testing.assert_close(load_low_rank(Ties().double(), model.state_dict())(x), expected)
    oialr = OIALR(model, delay=1, frequency=1, cutoff=1e-6, step_fraction=1.0)
    with pytest.warns(UserWarning, match="no optimizer"):
        oialr.step()
        torch.testing.assert_close(model(x), expected)
        drop_to(rank, *(layer for layer in model.modules() if isinstance(layer, LowRank)))
        oialr.step()
    expected = model(x)
    for _ in range(2):
        torch.testing.assert_close(model(x), expected)
        torch.testing.assert_close(load_low_rank(Ties().double(), model.state_dict())(x), expected)
        oialr.merge()


def test_singular_values_beyond_half_precision_are_said():
    model = nn.Sequential(nn.Linear(256, 256)).half()
    nn.init.constant_(model[0].weight, 300.0)
    with pytest.raises(FloatingPointError, match="layer '0': float16 cannot hold"):
        OIALR(model, delay=0, frequency=1)
    assert type(model[0]) is nn.Linear


@pytest.mark.parametrize("hooked", [False, True])
def test_torchs_encoder_takes_padding_as_before(hooked):
    torch.manual_seed(0)
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2).eval()
    x, hidden = torch.randn(3, 5, 8), torch.arange(5) >= torch.tensor([3, 5, 4])[:, None]
    if hooked:
        model.layers[0].linear1.register_forward_hook(lambda *given: None)

    def output():
        with torch.no_grad():
            return model(x, src_key_padding_mask=hidden)[~hidden]

    expected = output()
    OIALR(model, delay=0, frequency=1)
    torch.testing.assert_close(output(), expected)


@pytest.mark.parametrize("build", [lambda: nn.Linear(6, 5), lambda: nn.Conv1d(3, 4, 3)])
def test_the_weight_reads_as_the_dense_one_under_autocast(build):
    model = nn.Sequential(build())
    expected = model[0].weight.detach().clone()
    OIALR(model, delay=0, frequency=1)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model[0].weight.detach(), expected)


def test_an_optimizer_that_was_replaced_by_another_is_said():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    oialr = OIALR(model, optimizer, delay=1, frequency=4)
    for _ in range(3):  # one step in three calls is no reason yet
        train(model, optimizer, oialr, 1)
        oialr.step(), oialr.step()
    other = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.01)
    with pytest.warns(UserWarning, match="pass the optimizer that trains"):
        train(model, other, oialr, 40)


@pytest.mark.parametrize("average", [{}, [torch.ones(2)], object()])
def test_an_average_without_a_network_is_refused(average):
    with pytest.raises(TypeError, match="holds no copy of the network"):
        OIALR(network(), delay=1, frequency=1, averages=[average])


@pytest.mark.parametrize(
    "build, shape",
    [
        (lambda: nn.Linear(6, 5), (3, 6)),
        (lambda: nn.Conv2d(3, 4, 3), (2, 3, 9, 9)),
        (lambda: nn.ConvTranspose1d(3, 4, 3), (2, 3, 9)),
    ],
)
def test_autocast_leaves_double_precision_as_it_is(build, shape):
    model, x = nn.Sequential(build()).double(), torch.randn(shape, dtype=torch.float64)
    expected = model(x)
    OIALR(model, delay=0, frequency=1)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model(x), expected)


def test_conversion_pays_no_heed_to_the_default_device():
    model = network()
    nn.init.zeros_(model[4].weight)
    with torch.device("meta"):
        OIALR(model, delay=0, frequency=1).merge()
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}


def test_a_thin_layer_reads_as_the_dense_one():
    model = nn.Sequential(nn.Conv2d(20, 24, 3, padding=1))
    oialr = OIALR(model, delay=1, frequency=1, cutoff=0.01)
    with pytest.warns(UserWarning, match="no optimizer"):
        oialr.step()
        drop_to(2, model[0])
        oialr.step()
    oialr.merge()
    assert (model[0].in_channels, model[0].kernel_size, model[0].padding) == (20, (3, 3), (1, 1))


def test_settings_changed_in_low_rank_hold():
    torch.manual_seed(0)
    model = nn.ModuleList([nn.Conv1d(3, 4, 3), nn.LSTM(4, 4, 2)])
    dense = copy.deepcopy(model)
    OIALR(model, delay=0, frequency=1)
    for each in (model, dense):
        each[0].padding, each[1].batch_first = (1,), True
    x, y = torch.randn(2, 3, 7), torch.randn(3, 5, 4)
    for _ in range(2):
        torch.testing.assert_close(model[0](x), dense[0](x))
        torch.testing.assert_close(model[1](y)[0], dense[1](y)[0])
        merge(model)


@pytest.mark.parametrize("change", [prune.random_unstructured, nn.utils.weight_norm])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRUCell])
def test_recurrent_layers_with_computed_weights_stay_dense(kind, change):
    name = "weight_hh_l0" if kind is nn.LSTM else "weight_hh"
    layer = kind(4, 4)
    change(layer, name, **({"amount": 0.5} if change is prune.random_unstructured else {}))
    model = nn.ModuleList([layer, nn.Linear(4, 4)])
    report = OIALR(model, delay=0, frequency=1).report
    assert [entry.rank for entry in report if entry.name.startswith("0.")] == [None] * (len(report) - 1)
    assert all("computed from" in entry.reason for entry in report if entry.name.startswith("0."))


class Scaled(nn.Linear):
    def scaled(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * self(x)


class Last(nn.GRU):
    @property
    def width(self) -> int:
        return self.hidden_size

    def _reset(self) -> None: ...


class Plain(nn.Linear):
    def reset_parameters(self) -> None:
        nn.init.orthogonal_(self.weight)

    def _helper(self) -> None: ...


def test_layers_whose_own_methods_are_called_stay_dense():
    model = nn.ModuleList([Scaled(4, 4), Last(4, 4), Plain(4, 4)])
    report = {layer.name: layer for layer in OIALR(model, delay=0, frequency=1).report}
    assert "'scaled'" in report["0"].reason and "'width'" in report["1.weight_ih_l0"].reason
    assert report["2"].rank == 4 and model[0].scaled(torch.ones(1, 4)).shape == (1, 4)


def test_a_recurrent_layer_compiled_in_place():
    model = nn.ModuleList([nn.LSTM(4, 4)])
    x = torch.randn(3, 2, 4)
    expected = model[0](x)[0]
    model[0].compile(backend="eager")
    OIALR(model, delay=0, frequency=1)
    torch.testing.assert_close(model[0](x)[0], expected)


def test_a_matrix_tied_to_another_kind_of_layer_stays_tied_when_merged_dense():
    model = nn.ModuleList([nn.RNNCell(6, 6), nn.Linear(6, 6)])
    model[1].weight = model[0].weight_hh
    OIALR(model, delay=0, frequency=1).merge()
    assert model[1].weight is model[0].weight_hh
