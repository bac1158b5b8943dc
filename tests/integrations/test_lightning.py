"""OIALR as a callback of Lightning: change-over, cuts, the same numbers resumed, the best checkpoint, DDP."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from oialr_hpo.oialr import load_low_rank
from oialr_hpo.oialr.layers import LowRank

pl = pytest.importorskip("lightning.pytorch")


class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, 16), nn.Linear(16, 4))
        self.losses: dict[int, float] = {}

    def training_step(self, batch, _):
        loss = F.mse_loss(self.network(batch), batch[:, :4].roll(1, 1))
        self.losses[self.global_step] = loss.item()
        return loss

    def test_step(self, batch, _):
        self.log("loss", F.mse_loss(self.network(batch), batch[:, :4].roll(1, 1)))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), 1e-2)
        return [optimizer], [{"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 5), "interval": "step"}]


def data():
    return torch.utils.data.DataLoader(torch.randn(32, 8, generator=torch.Generator().manual_seed(1)), batch_size=8)


def fit(path: Path, resume: str | None = None, **arguments):
    """Eight epochs of four batches, two to a step: 16 steps, the change-over at the fourth; each keeps a checkpoint."""
    from oialr_hpo.trainers.lightning import OIALRCallback

    keep = pl.callbacks.ModelCheckpoint(path, filename="{step}", save_top_k=-1, save_on_train_epoch_end=True)
    callback = OIALRCallback(
        delay=0.25, frequency=2, cutoff=0.6, step_fraction=1.0, max_cut=0.3, merge=arguments.pop("merge", True)
    )
    settings = {
        "max_epochs": 8, "accumulate_grad_batches": 2, "accelerator": "cpu", "logger": False,
        "enable_progress_bar": False, "enable_model_summary": False, "callbacks": [keep, callback], **arguments,
    }  # fmt: skip
    pl.seed_everything(3)
    module, trainer = Module(), pl.Trainer(**settings)
    trainer.fit(module, data(), ckpt_path=resume)
    return module, callback, trainer


def low_rank(module) -> bool:
    return any(isinstance(each, LowRank) for each in module.modules())


def test_change_over_cuts_and_merge(tmp_path):
    module, callback, _ = fit(tmp_path)
    assert callback.oialr.steps == 16 and callback.oialr.updates == 6 and not low_rank(module)
    saved = [torch.load(tmp_path / f"step={step}.ckpt", weights_only=True) for step in (2, 4, 16)]
    sizes = [sum(value.numel() for name, value in each["state_dict"].items() if "sigma" in name) for each in saved]
    assert sizes[0] == 0 and sizes[1] > sizes[2] > 0
    again, x = load_low_rank(Module(), saved[-1]["state_dict"]).eval(), torch.randn(5, 8)
    torch.testing.assert_close(again.network(x), module.eval().network(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("step", [2, 4, 10])
def test_resumed_to_the_same_numbers(tmp_path, step):
    """From before the change-over, at it, and between two cuts; the network has no dropout where Lightning would draw
    anew: it does not restore random states."""
    with no_dropout():
        whole, callback, _ = fit(tmp_path)
        again, resumed, _ = fit(tmp_path, str(tmp_path / f"step={step}.ckpt"))
    assert resumed.oialr.state_dict() == callback.oialr.state_dict()
    assert again.losses.keys() == {s for s in whole.losses if s >= step}
    assert all(whole.losses[s] == loss for s, loss in again.losses.items())
    for (name, one), two in zip(whole.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two), name


def no_dropout():
    patched = pytest.MonkeyPatch.context()

    class Patched:
        def __enter__(self):
            self.inner = patched.__enter__()
            self.inner.setattr(nn.Dropout, "forward", lambda _, x: x)

        def __exit__(self, *error):
            patched.__exit__(*error)

    return Patched()


def test_a_checkpoint_of_other_ranks_is_tested_and_then_merged(tmp_path):
    module, callback, trainer = fit(tmp_path, merge=False)
    last = trainer.test(module, data(), verbose=False)[0]["loss"]
    (earlier,) = trainer.test(module, data(), ckpt_path=str(tmp_path / "step=6.ckpt"), verbose=False)
    saved = torch.load(tmp_path / "step=6.ckpt", weights_only=True)
    expected = load_low_rank(Module(), saved["state_dict"]).eval()
    x = torch.randn(5, 8)
    torch.testing.assert_close(module.eval().network(x), expected.network(x))
    assert earlier["loss"] != last and callback.oialr.ranks == saved["callbacks"][callback.state_key]["ranks"]
    callback.oialr.merge()
    torch.testing.assert_close(module.network(x), expected.network(x), rtol=1e-4, atol=1e-5)
    assert not low_rank(module)


SCRIPT = """
import sys, torch
import torch.distributed as dist
from tests.integrations.test_lightning import fit, low_rank, no_dropout

with no_dropout():
    module, callback, trainer = fit(sys.argv[1], sys.argv[2] or None, strategy="ddp", devices=2)
bits = torch.cat([p.detach().flatten() for p in module.parameters()])
first = bits.clone()
dist.broadcast(first, 0)
assert torch.equal(bits, first), "processes differ"
assert dist.get_world_size() == 2 and callback.oialr.steps == 8 and not low_rank(module)
if trainer.is_global_zero:
    print("numbers", callback.oialr.ranks, bits.double().sum().item())
"""


def test_two_processes_agree_and_go_on(tmp_path):
    def run(resume: str) -> str:
        file = tmp_path / "script.py"
        file.write_text(SCRIPT)
        command = [sys.executable, str(file), str(tmp_path / "out"), resume]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return next(line for line in done.stdout.splitlines() if line.startswith("numbers"))

    whole = run("")
    assert run(str(tmp_path / "out" / "step=4.ckpt")) == whole
