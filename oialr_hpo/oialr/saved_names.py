"""States under the names that their networks have: transformers saves some of its networks under others.

Since its version 5 a ViT's `layers.0.attention.q_proj` is saved as `encoder.layer.0.attention.attention.query`, as
older versions called it, whatever the layer has become. `from_pretrained` names it back; `load_state_dict` does not,
and the Trainer, which goes on from a checkpoint by it, leaves such weights as they are, with a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from oialr_hpo.oialr.distributed import plain


def under_own_names(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state under the network's own names, where `save_pretrained` or the Trainer gave it others.

    Raises RuntimeError for a weight that was not renamed but joined with others, or split.
    """
    conversions = _conversions(network)
    if not conversions:
        return dict(state)
    modules = {plain(name) for name, _ in network.named_modules()}
    weights = network.state_dict().keys()

    def place(name: str) -> int:
        """How far the network has the modules that a name leads through."""
        while name not in modules:
            name = name.rpartition(".")[0]
        return len(name)

    own = {}
    for key in sorted(state):  # as transformers does
        name = key
        for conversion in conversions:
            name, pattern = conversion.rename_source_key(name)
            if pattern and type(conversion).__name__ == "WeightConverter" and key not in weights and name in weights:
                raise RuntimeError(
                    f"'{key}': transformers joins or splits weights of this network when it saves them; save it by "
                    "model.save_pretrained(path, save_original_format=False)"
                )
        own[max(key, name, key=place)] = state[key]
    return own


def _conversions(network: nn.Module) -> list[Any]:
    """What transformers makes of the names of a saved network, in order."""
    if not any(kind.__module__ == "transformers.modeling_utils" for kind in type(network).__mro__):
        return []
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
    except ImportError:  # before 5.0, it saves all names as they are
        return []
    known: list[Any] | None = getattr(network, "_weight_conversions", None)  # of from_pretrained
    if known is None:
        found = get_model_conversion_mapping(network, add_legacy=False)
        known = [each for each in found if type(each).__name__ != "PrefixChange"]
    return known
