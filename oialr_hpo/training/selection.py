"""Which epoch's network is the result of a training: the last one's or the best one's; and when no better one comes."""

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from oialr_hpo.experiment import Experiment
from oialr_hpo.runs import layers
from oialr_hpo.runs.scoring import goals
from oialr_hpo.training.sizes import SIZES


class Selection:
    """The network that a training ends with, as far as it has come.

    Args:
        experiment: with its score and its patience.
        network: what is measured after every epoch.
        keeps_best: the best epoch's network is to be had at the end; otherwise its number is enough.

    Attributes:
        network: the last epoch's, or a copy of the best one's.
        sizes: of that copy, as its epoch's record says them.
    """

    def __init__(self, experiment: Experiment, network: nn.Module, keeps_best: bool):
        self._score, self._patience = experiment.score, experiment.training.patience
        self._measured, self._keeps_best = network, keeps_best
        self.network, self.sizes = network, dict[str, Any]()
        self._best, self._best_epoch = math.inf, 0

    def see(self, record: Mapping[str, Any]) -> None:
        """Take in what an epoch's network reached."""
        reached = goals(record, self._score)[0]
        if reached < self._best:
            self._best, self._best_epoch = reached, record["epoch"]
            if self._keeps_best:
                self.network = copy.deepcopy(self._measured)
                self.sizes = {name: record[name] for name in (*SIZES, layers.kind(record))}

    def is_hopeless(self, epoch: int) -> bool:
        """Whether the last better epoch lies too far back."""
        return self._patience is not None and epoch - self._best_epoch >= self._patience

    def state_dict(self) -> dict[str, Any]:
        kept = {"kept": self.network.state_dict(), "kept_sizes": self.sizes}
        return {"best": self._best, "best_epoch": self._best_epoch} | (kept if self.sizes else {})

    def load_state_dict(self, state: Mapping[str, Any], load: Callable[[Mapping[str, Any]], nn.Module]) -> None:
        """Go on where `state_dict` was taken.

        Args:
            load: makes a network of such weights.
        """
        self._best, self._best_epoch = state["best"], state["best_epoch"]
        if "kept" in state:
            self.network, self.sizes = load(state["kept"]), state["kept_sizes"]
