"""What a trainer loads into a network while its callbacks do not look."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from oialr_hpo.oialr import OIALR
from oialr_hpo.oialr.saved_names import under_own_names


class ArrivingStates:
    """Stands before a network's `load_state_dict`.

    Trainers load a checkpoint's network before they begin, when it is dense still: a low-rank state waits for `begin`.
    At the end some load that of the best checkpoint, whose ranks the network takes on.
    """

    def __init__(self, network: nn.Module) -> None:
        self._oialr: OIALR | None = None
        self._waiting: dict[str, Tensor] = {}
        self._handle = network.register_load_state_dict_pre_hook(self._look)

    def begin(self, network: nn.Module, oialr: OIALR, saved: Mapping[str, Any] | None) -> None:
        """The training begins, with what a checkpoint says of `oialr`, if it goes on from one.

        Raises ValueError where its network did not come by.
        """
        waiting, self._waiting = self._waiting, {}
        if bool(waiting) != bool(saved and saved["ranks"]):
            came = "without a word of its ranks" if waiting else "unseen"
            raise ValueError(
                f"OIALR: the low-rank network of a checkpoint came {came}: give the trainer OIALRCallback when it is "
                "made, and resume from a checkpoint that was saved with it"
            )
        if saved:
            oialr.load_state_dict(dict(saved))
        self._oialr = oialr
        if waiting and (unknown := network.load_state_dict(waiting, strict=False).unexpected_keys):
            raise ValueError(f"OIALR: the checkpoint's '{unknown[0]}' is no weight of this network")

    def end(self) -> None:
        """Look no more: the network is merged."""
        self._handle.remove()

    def _look(self, network: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
        came = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        arrived = under_own_names(network, came)
        for key in came.keys() - arrived.keys():
            del state[f"{prefix}{key}"]
        state.update({f"{prefix}{key}": value for key, value in arrived.items()})
        ranks = {
            stem: len(value)
            for key, value in arrived.items()
            if (stem := key.removesuffix(".sigma")) != key and {f"{stem}.u", f"{stem}.vt"} <= arrived.keys()
        }
        ours: dict[str, int] = self._oialr.ranks if self._oialr else {}
        if ranks and not ours:
            self._waiting = arrived
        elif ours and not ranks:
            warnings.warn(
                "OIALR: a dense state, of before the change-over, is not loaded: it stays low-rank", stacklevel=2
            )
        elif ours and self._oialr:
            users = {user: layer.name for layer in self._oialr.report for user in layer.users}
            taken = ours | {users[stem]: rank for stem, rank in ranks.items() if stem in users}
            if taken != ours:
                self._oialr.load_state_dict(self._oialr.state_dict() | {"ranks": taken})
            return
        else:
            return
        for key in [key for key in state if key.startswith(prefix)]:
            del state[key]
        state.update({f"{prefix}{key}": value for key, value in network.state_dict().items()})
