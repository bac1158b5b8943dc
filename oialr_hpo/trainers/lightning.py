"""OIALR in Lightning.

from oialr_hpo.trainers.lightning import OIALRCallback

trainer = Trainer(max_epochs=90, callbacks=[OIALRCallback(delay=0.33, cutoff=0.15)])
trainer.fit(module, loader)
"""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from oialr_hpo.oialr import OIALR
from oialr_hpo.trainers._arriving import ArrivingStates
from oialr_hpo.trainers._callback import OfTrainer


class OIALRCallback(OfTrainer, Callback):
    """Converts the network at the delay, updates it, goes on from checkpoints, and merges it when `fit` ends.

    The strategy is `ddp` where there are several processes: one that gives a copy of the network back from them
    (`ddp_spawn`, `ddp_notebook`) does not know its new layers.

    Arguments:
        delay, frequency: d and nu, as fractions of the Trainer's optimizer steps, or ints: so many of them.
        merge: whether the network consists of plain layers again afterwards. Checkpoints are of low-rank layers: for
            `trainer.test(ckpt_path="best")` say no, and `callback.oialr.merge()` afterwards.
        arguments: others of `oialr_hpo.oialr.OIALR`.

    Attributes:
        oialr: once the training has begun: ranks, report, percents.
    """

    _saved: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        return self.oialr.state_dict() if self.oialr else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._saved = state_dict

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self._arriving = ArrivingStates(pl_module)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The optimizers are there, the network is on its device; the optimizers' states are loaded after this."""
        network, total = trainer.strategy.model or pl_module, trainer.estimated_stepping_batches
        self.oialr = OIALR.for_run(network, trainer.optimizers, int(total), **self._arguments)
        assert self._arriving is not None
        self._arriving.begin(pl_module, self.oialr, self._saved)
        self._saved = None

    def on_train_batch_end(self, *_: Any) -> None:
        self._step()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end()
