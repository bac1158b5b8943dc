"""Low-rank networks as ONNX, for any size of batch."""

import pytest
import torch
from torch import nn

from oialr_hpo.oialr import OIALR

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.up = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(16, 64)
        self.attention, self.down = nn.MultiheadAttention(64, 4, batch_first=True), nn.Linear(64, 8)

    def forward(self, x):
        y = self.up(self.conv(x).flatten(2).transpose(1, 2))
        return self.down(self.attention(y, y, y, need_weights=False)[0]).mean(1)


@pytest.mark.parametrize("cutoff", [0.0, 0.8])
def test_any_number_of_rows(tmp_path, cutoff):
    torch.manual_seed(0)
    model = Net().eval()
    oialr = OIALR(model, delay=0, frequency=1, cutoff=cutoff, step_fraction=1)
    oialr.step()
    torch.onnx.export(
        model, (torch.randn(4, 3, 4, 4),), tmp_path / "model.onnx", input_names=["x"], dynamo=True,
        dynamic_shapes={"x": {0: torch.export.Dim("batch", min=1, max=4096)}},
    )  # fmt: skip
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for rows in (1, 33, 300):
        x = torch.randn(rows, 3, 4, 4)
        (y,) = session.run(None, {"x": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(y), model(x).detach(), rtol=1e-3, atol=1e-4)
