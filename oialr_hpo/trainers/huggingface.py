"""OIALR in Hugging Face's Trainer.

from oialr_hpo.trainers.huggingface import OIALRCallback

trainer = Trainer(model, arguments, train_dataset=data, callbacks=[OIALRCallback(delay=0.33, cutoff=0.15)])
trainer.train()
"""

from __future__ import annotations

import gc
from typing import Any
from weakref import WeakKeyDictionary

import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from oialr_hpo.oialr import OIALR
from oialr_hpo.trainers._arriving import ArrivingStates
from oialr_hpo.trainers._callback import OfTrainer

_UNTIL_TRAINING: WeakKeyDictionary[nn.Module, ArrivingStates] = WeakKeyDictionary()
"""By their networks: the Trainer may put a new callback of the same state in the place of the one it was given."""


class OIALRCallback(OfTrainer, TrainerCallback, ExportableState):
    """Converts the network at the delay, updates it, goes on from checkpoints, and merges it when the training ends.

    To be given to the Trainer when it is made. Under torchrun every process has one.

    Arguments:
        delay, frequency: d and nu, as fractions of the Trainer's optimizer steps, or ints: so many of them.
        merge: whether the network consists of plain layers again afterwards, as `trainer.save_model` writes it.
        arguments: others of `oialr_hpo.oialr.OIALR`; plain values, since the Trainer's checkpoints note them.

    Attributes:
        oialr: once the training has begun: ranks, report, percents.
    """

    def state(self) -> dict[str, Any]:
        """What the Trainer's checkpoints note of it."""
        state = self.oialr.state_dict() if self.oialr else None
        return {"args": self._arguments | {"merge": self._merge}, "attributes": {"saved": state}}

    def on_init_end(self, args: Any, state: Any, control: Any, **shown: Any) -> None:
        _UNTIL_TRAINING[shown["model"]] = ArrivingStates(shown["model"])

    def on_train_begin(self, args: Any, state: Any, control: Any, **shown: Any) -> None:
        model, optimizer = shown["model"], shown["optimizer"]
        noted = state.stateful_callbacks.setdefault(type(self).__name__, self.state()) if state.global_step else {}
        saved = noted.get("attributes", {}).get("saved")
        moments = optimizer.state_dict()  # already the checkpoint's, of low-rank weights
        if saved and saved["ranks"]:
            optimizer.state.clear()
        self.oialr = OIALR.for_run(_wrapped(model), optimizer, state.max_steps, **self._arguments)
        self._arriving = _UNTIL_TRAINING.pop(model, None) or ArrivingStates(model)
        self._arriving.begin(model, self.oialr, saved)
        if saved and saved["ranks"]:
            optimizer.load_state_dict(moments)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._step()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._end()


def _wrapped(model: nn.Module) -> nn.Module:
    """DistributedDataParallel around the network, where it is: the Trainer shows callbacks the network alone."""
    if not (dist.is_available() and dist.is_initialized()):
        return model
    gc.collect()
    around = [each for each in gc.get_objects() if type(each) is DistributedDataParallel]
    return next((each for each in around if each.module is model), model)
