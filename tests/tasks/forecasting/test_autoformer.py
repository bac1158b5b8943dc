import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import mse_loss

from oialr_hpo.oialr import OIALR
from oialr_hpo.tasks.forecasting.autoformer import Autoformer
from oialr_hpo.tasks.forecasting.autoformer.auto_correlation import correlation
from oialr_hpo.tasks.forecasting.autoformer.decomposition import SeriesDecomposition

PUBLISHED = {
    "seq_len": 96,
    "label_len": 48,
    "pred_len": 96,
    "enc_in": 7,
    "dec_in": 7,
    "c_out": 7,
    "d_model": 512,
    "n_heads": 8,
    "e_layers": 2,
    "d_layers": 1,
    "d_ff": 2048,
    "moving_avg": 25,
    "factor": 1,
    "dropout": 0.05,
    "activation": "gelu",
    "freq": "t",
}


@pytest.fixture(scope="module")
def parity() -> dict[str, np.ndarray]:
    path = Path(__file__).parents[4] / "shared" / "reference" / "autoformer_parity.npz"
    if not path.is_file():
        pytest.skip(f"no reference outputs of the authors' code at {path}")
    with np.load(path) as archive:
        return dict(archive)


def test_outputs_loss_and_gradients_are_those_of_the_authors_code(parity: dict[str, np.ndarray]) -> None:
    tensors = {name: torch.from_numpy(value) for name, value in parity.items() if value.dtype.kind == "f"}
    model = Autoformer(**json.loads(str(parity["config"])))
    model.load_state_dict(
        {name.removeprefix("weights/"): t for name, t in tensors.items() if name.startswith("weights/")}
    )
    inputs = [tensors[name] for name in ("x_enc", "x_mark_enc", "x_dec", "x_mark_dec")]
    close = {"atol": 1e-5, "rtol": 0.0}
    torch.testing.assert_close(model.eval()(*inputs), tensors["output_eval"], **close)
    output = model.train()(*inputs)
    torch.testing.assert_close(output, tensors["output_train"], **close)
    loss = mse_loss(output, tensors["target"])
    assert loss.item() == pytest.approx(float(parity["loss_train"]), abs=1e-6)
    loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, tensors[f"grads/{name}"], **close)


def inputs_for(config: dict[str, object], features: int) -> list[torch.Tensor]:
    past, future = config["seq_len"], config["label_len"] + config["pred_len"]  # type: ignore[operator]
    shapes = ((past, config["enc_in"]), (past, features), (future, config["dec_in"]), (future, features))
    return [torch.randn(2, *shape) for shape in shapes]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "features"),
    [
        ({"freq": "h", "n_heads": 2, "e_layers": 1}, 4),
        ({"moving_avg": 12, "factor": 3, "d_layers": 2}, 5),
        ({"pred_len": 7, "label_len": 0, "activation": "relu"}, 5),
        ({"enc_in": 3, "dec_in": 3, "c_out": 3, "dropout": 0.0}, 5),
    ],
)
def test_any_configuration_forecasts_and_trains(changes: dict[str, object], features: int) -> None:
    config = PUBLISHED | {"d_model": 16, "d_ff": 32, "n_heads": 4} | changes
    model = Autoformer(**config)
    output = model(*inputs_for(config, features))
    assert output.shape == (2, config["pred_len"], config["c_out"])
    output.square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_published_network_and_its_full_rank_shares() -> None:
    model = Autoformer(**PUBLISHED)
    assert sum(parameter.numel() for parameter in model.parameters()) == 10_536_967
    oialr = OIALR(model, delay=0, frequency=100)
    assert oialr.total_percent == pytest.approx(209.5, abs=0.05)
    assert oialr.trainable_percent == pytest.approx(54.84, abs=0.005)


@pytest.mark.parametrize(("length", "moving_avg"), [(3, 25), (96, 25), (144, 12), (70, 1), (200, 121)])
def test_the_decomposition_is_a_moving_average_with_its_ends_repeated(length: int, moving_avg: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, length, 3, dtype=torch.float64) + 100
    before, after = moving_avg // 2, (moving_avg - 1) // 2
    padded = torch.cat([x[:, :1].expand(-1, before, -1), x, x[:, -1:].expand(-1, after, -1)], dim=1)
    average = padded.unfold(1, moving_avg, 1).mean(dim=3)
    decomposition = SeriesDecomposition(moving_avg)
    for dtype, close in ((torch.float64, 1e-11), (torch.float32, 1e-4)):
        seasonal, trend = decomposition(x.to(dtype))
        torch.testing.assert_close(trend.double(), average, atol=close, rtol=0)
        torch.testing.assert_close(seasonal.double(), x - average, atol=close, rtol=0)
    assert torch.autograd.gradcheck(decomposition.seasonal, x[:, :60].clone().requires_grad_(), fast_mode=True)


@pytest.mark.parametrize("length", [5, 96, 300])
def test_correlations_are_sums_of_products_at_every_delay(length: int) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(2, 2, length, 3, dtype=torch.float64).unbind(0)
    expected = torch.stack([(x.roll(-delay, 1) * y).sum(dim=(1, 2)) for delay in range(length)], dim=1)
    torch.testing.assert_close(correlation(x, y), expected)
