"""The search for utilized ranks, on real digits."""

import copy
import json
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from oialr_hpo.utilization import Accuracy, Utilization, analyse
from oialr_hpo.utilization.curves import layer_curves
from oialr_hpo.utilization.gram import gram_matrices
from tests.utilization.conftest import Batches, digits

TOLERANCE = 0.3


def dimensions(result: Utilization) -> list[tuple[int, int]]:
    return [(layer.k_s, layer.k_t) for layer in result.layers]


@torch.no_grad()
def as_in_the_paper(network: nn.Sequential, train: Batches, accuracy: Accuracy) -> tuple[list[tuple[int, int]], int]:
    """Section 2.2 word by word: bisect k_S, then k_T, with a full validation pass for each; changes the network."""
    layers = {name: [layer] for name, layer in network.named_children() if isinstance(layer, (nn.Linear, nn.Conv2d))}
    grams = gram_matrices(network, layers, train)
    found, passes, current = [], 0, accuracy(network)
    for name, (layer,) in layers.items():
        weight, original = layer.weight.data.double().flatten(1), layer.weight.data.double().flatten(1)
        found.append([])
        for gram, side in ((grams[name], 1), (original @ grams[name] @ original.t(), 0)):
            basis = torch.linalg.eigh(gram).eigenvectors.flip(1)
            low, high, reached = 1, len(gram), {len(gram): current}
            while low < high:
                k = (low + high) // 2
                projection = basis[:, :k] @ basis[:, :k].t()
                layer.weight.data = (weight @ projection if side else projection @ weight).float().view_as(layer.weight)
                reached[k], passes = accuracy(network), passes + 1
                low, high = (low, k) if reached[k] >= current - TOLERANCE - 1e-9 else (k + 1, high)
            projection = basis[:, :low] @ basis[:, :low].t()
            weight = weight @ projection if side else projection @ weight
            layer.weight.data = weight.float().view_as(layer.weight)
            current = reached[low]
            found[-1].append(low)
    return [tuple(pair) for pair in found], passes


@pytest.fixture(scope="module")
def thrifty(convolutional: nn.Module, batches: tuple[Batches, Batches]) -> Utilization:
    return analyse(convolutional, batches[0], Accuracy(batches[1]), TOLERANCE)


def test_parts_of_passes_find_what_full_passes_find(
    thrifty: Utilization, convolutional: nn.Module, batches: tuple[Batches, Batches]
) -> None:
    accuracy = Accuracy(batches[1])
    expected, passes = as_in_the_paper(copy.deepcopy(convolutional), batches[0], accuracy)
    plain = analyse(convolutional, batches[0], lambda network: accuracy(network), TOLERANCE)
    assert dimensions(thrifty) == dimensions(plain) == expected
    assert thrifty.plain_passes == 43 and 35 <= passes <= 43
    assert thrifty.passes < passes / 4 and plain.passes <= thrifty.plain_passes
    assert thrifty.accuracy == pytest.approx(plain.accuracy) == pytest.approx(accuracy(thrifty.model))


def test_what_is_found(thrifty: Utilization, convolutional: nn.Module, batches: tuple[Batches, Batches]) -> None:
    assert [layer.name for layer in thrifty.layers] == ["0", "4", "9", "11"]
    assert thrifty.mlu == pytest.approx(sum(layer.utilization for layer in thrifty.layers) / 4)
    assert thrifty.mlu < 0.9 * thrifty.original_mlu  # 0.71 and 1: the network is the same on every CPU
    assert thrifty.original_accuracy == pytest.approx(Accuracy(batches[1])(convolutional))
    assert thrifty.accuracy is not None and thrifty.accuracy >= thrifty.original_accuracy - 2 * TOLERANCE * 4
    for layer in thrifty.layers:
        assert layer.utilized_rank <= min(layer.k_s, layer.k_t) and layer.max_rank == min(layer.shape)
        assert 0 <= layer.error <= layer.bound
        weight = thrifty.model.get_submodule(layer.name).weight.detach().flatten(1)
        assert torch.linalg.matrix_rank(weight, rtol=1e-4) <= min(layer.k_s, layer.k_t)


def test_curves_of_a_layer(thrifty: Utilization, convolutional: nn.Module, batches: tuple[Batches, Batches]) -> None:
    """Energy of W and W'; accuracy over k with this layer alone projected, up to that of the network as it is."""
    accuracy, layer = Accuracy(batches[1]), thrifty.layers[2]
    (curve,) = layer_curves(convolutional, thrifty, batches[0], accuracy, [layer.name])
    assert curve.energy[-1] == pytest.approx(1) and curve.energy == sorted(curve.energy)
    assert curve.projected_energy[layer.utilized_rank - 1] >= 0.9999 > curve.projected_energy[layer.utilized_rank - 2]
    for points, size, k in ((curve.onto_inputs, 96, layer.k_s), (curve.onto_outputs, 48, layer.k_t)):
        assert points[0][0] == 1 and points[-1] == (size, pytest.approx(thrifty.original_accuracy))
        assert k in dict(points) and points[0][1] < points[-1][1] - 20
    weight = convolutional.get_submodule("9").get_parameter("weight").detach().double()
    basis = torch.linalg.eigh(gram_matrices(convolutional, {"9": [convolutional[9]]}, batches[0])["9"])  # type: ignore
    kept = basis.eigenvectors.flip(1)[:, : layer.k_s]
    projected = copy.deepcopy(convolutional)
    projected[9].weight.data = (weight @ kept @ kept.t()).float()  # type: ignore
    assert dict(curve.onto_inputs)[layer.k_s] == pytest.approx(accuracy(projected))


def test_the_network_given_is_left_alone(convolutional: nn.Module, batches: tuple[Batches, Batches]) -> None:
    before = {key: value.clone() for key, value in convolutional.state_dict().items()}
    convolutional.train()
    try:
        analyse(convolutional, batches[0][:1], Accuracy(batches[1][:1]), 50)
        assert convolutional.training
    finally:
        convolutional.eval()
    assert all(torch.equal(value, before[key]) for key, value in convolutional.state_dict().items())
    assert not any(module._forward_pre_hooks for module in convolutional.modules())


def test_each_layer_may_be_searched_in_the_original_network(
    convolutional: nn.Module, batches: tuple[Batches, Batches]
) -> None:
    train, accuracy = batches[0], Accuracy(batches[1])
    alone = analyse(convolutional, train, accuracy, TOLERANCE, keep_projected=False)
    plain = analyse(convolutional, train, lambda network: accuracy(network), TOLERANCE, keep_projected=False)
    assert dimensions(alone) == dimensions(plain) and alone.accuracy is None
    assert all(layer.accuracy >= alone.original_accuracy - 2 * TOLERANCE for layer in alone.layers)


def test_little_memory_changes_nothing_but_the_passes(
    thrifty: Utilization, convolutional: nn.Module, batches: tuple[Batches, Batches]
) -> None:
    few = Accuracy(batches[1], memory=2 * 300 * 64 * 4)  # 300 images, and little of what layers make of them
    result = analyse(convolutional, batches[0], few, TOLERANCE, gram_bytes=1)
    assert dimensions(result) == dimensions(thrifty)
    assert thrifty.passes < result.passes < result.plain_passes / 3


def test_data_of_few_dimensions_utilize_few(batches: tuple[Batches, Batches]) -> None:
    torch.manual_seed(0)
    x = torch.randn(400, 3) @ torch.randn(3, 20)
    network = nn.Sequential(nn.Linear(20, 16), nn.Tanh(), nn.Linear(16, 4))
    labels = network(x).argmax(1)
    first, _ = analyse(network, [x], Accuracy([(x, labels)]), 0.0).layers
    assert first.k_s <= 3 and first.utilized_rank <= 3 and first.original_rank > 12


def test_an_interrupted_analysis_goes_on(
    thrifty: Utilization, convolutional: nn.Module, batches: tuple[Batches, Batches], tmp_path: Path
) -> None:
    class Interrupted(Exception):
        pass

    lines = []

    def interrupt(line: str) -> None:
        lines.append(line)
        if len(lines) == 3:
            raise Interrupted

    state, accuracy = tmp_path / "state.json", Accuracy(batches[1])
    with pytest.raises(Interrupted):
        analyse(convolutional, batches[0], accuracy, TOLERANCE, state=state, progress=interrupt)
    assert list(json.loads(state.read_text())["layers"]) == ["0", "4"]
    assert lines[0].startswith("inputs of 4 layers: one pass over the data")
    assert lines[2].startswith("2/4  4  S 108 -> ") and "s left" in lines[2]
    resumed = analyse(convolutional, batches[0], accuracy, TOLERANCE, state=state)
    assert dimensions(resumed) == dimensions(thrifty) and resumed.accuracy == thrifty.accuracy
    with pytest.raises(ValueError, match="state.json is of another network or other options"):
        analyse(convolutional, batches[0], accuracy, 0.2, state=state)


def test_what_cannot_be_analysed_says_why(batches: tuple[Batches, Batches]) -> None:
    grouped = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(64, 10))
    result = analyse(grouped, batches[0][:1], Accuracy(batches[1][:1]), 50)
    assert [layer.name for layer in result.layers] == ["0", "3"] and result.skipped == {"1": "2 groups"}
    with pytest.raises(ValueError, match="Sequential has no Linear or Conv layer"):
        analyse(nn.Sequential(nn.Flatten()), batches[0], Accuracy(batches[1]))
    with pytest.raises(ValueError, match="the batches hold no image; is the data set empty"):
        analyse(grouped, batches[0], Accuracy(iter(())))


def share(process: int, address: str, network: nn.Module, expected: list[tuple[int, int]]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=address, rank=process, world_size=2)
    train, validation = digits()
    mine = validation[:2] if process else validation[2:]
    assert dimensions(analyse(network, train[process::2], Accuracy(mine), TOLERANCE)) == expected
    dist.destroy_process_group()


def test_processes_share_the_data(thrifty: Utilization, convolutional: nn.Module, tmp_path: Path) -> None:
    mp.spawn(share, (f"file://{tmp_path / 'store'}", convolutional, dimensions(thrifty)), nprocs=2)


class Padded(nn.Module):
    """torch's encoder, which takes a fast path through nested tensors where a mask of padding is given."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 1), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = (x[..., 0] > 1.5) & (torch.arange(x.shape[1]) > 2)
        return self.head(self.encoder(x, src_key_padding_mask=hidden)[:, 0])


def test_a_transformer_with_padding_is_analysed() -> None:
    torch.manual_seed(0)
    network, x = Padded().eval(), torch.randn(64, 5, 8)
    with torch.no_grad():
        batches = [(x, network(x).argmax(1))]
    found = analyse(network, batches, Accuracy(batches), tolerance=10)
    assert len(found.layers) == 5 and found.original_accuracy > 99
    assert found.accuracy == pytest.approx(Accuracy(batches)(found.model), abs=2)
    assert torch.backends.mha.get_fastpath_enabled()
