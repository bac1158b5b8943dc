"""CP: channels are chosen by LASSO, and weights by least squares (He, Zhang, Sun 2017, arXiv:1707.06168).

The network is trained dense first, as the paper begins with a trained one. Then all of it is pruned at once, from the
front to the back (section 3.2), and fine-tuned for the rest of the run. A layer's c channels are pruned like this
(3.1), from samples at random positions:

- The next layer's output, without its bias, is Y = sum of β_i X_i W_i^T over the channels i, with |W_i| = 1. With W
  fixed, β minimises |Y - sum of β_i X_i W_i^T|^2 / 2 N + λ |β|_1, and λ grows from zero until at most c' of the β_i
  are not zero (equation 3). Here it grows along the exact path of solutions (LARS), in which one λ after another
  changes the number, by one in general.
- With these channels the next layer gets the weights W' that minimise |Y - X' W'^T|^2 (equation 4), once, after the
  last λ, as in all of the paper's experiments. The weights nearest to the ones before, where they are not unique.

X is of the pruned network and Y of the dense one, so that errors do not add up (equation 5). In residual branches Y is
the branch's own output: the paper's correction by the shortcut's error (3.3) needs to know where branches meet.

How many channels are left follows from the speed-up of the whole network, in multiplications (4.1.2, VGG-16): deep
layers keep 1.5 times the share of shallow ones, and the last ones all. By their place in VGG-16, 7 of 13 layers are
shallow (conv1_1 to conv3_3), and 3 are not pruned (conv5_x).

New weights start afresh in the optimizer, and averages of the weights get them too.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from pydantic import Field

from oialr_hpo.methods import MethodSettings
from oialr_hpo.methods._narrowing import Narrowing
from oialr_hpo.mistake import warn
from oialr_hpo.section import Duration, steps

if TYPE_CHECKING:
    from torch import Tensor, nn

SHALLOW = 7 / 13  # of the layers: conv1_1 to conv3_3 of VGG-16


class CP(Narrowing):
    """Prunes the outputs of convolutions that only other layers read."""

    name = "cp"

    class Settings(MethodSettings):
        """CP's own settings (arXiv:1707.06168, section 4)."""

        delay: Duration = Field(default=0.333333333, description="dense, before the network is pruned; at least 1 step")
        speed_up: float = Field(
            default=2.0, ge=1, description="of the whole network, in multiplications (paper: 2 to 5), where possible"
        )
        ratio: float = Field(
            default=1.5, ge=1, description="share of the channels that deep layers keep, to that of shallow ones"
        )
        depth: float = Field(
            default=0.77, gt=0, le=1, description="share of the layers, from the front, that is pruned (VGG-16: 10/13)"
        )
        images: int = Field(default=5000, ge=1, description="from which samples are drawn, at most an epoch's")
        samples: int = Field(default=10, ge=1, description="positions in each image")

        def change_over(self, total_steps: int) -> int:
            return max(1, steps(self.delay, total_steps))

    def narrow(self) -> None:
        if self.steps == self.settings.change_over(self.loop.total_steps):
            self._prune()

    def _prune(self) -> None:
        from oialr_hpo.oialr.distributed import unwrapped

        dense = deepcopy(unwrapped(self.loop.model))
        for name, width in self._planned().items():
            if width < self.channels.widths()[name]:
                self._prune_layer(name, width, dense)

    def _prune_layer(self, name: str, width: int, dense: nn.Module) -> None:
        import torch

        from oialr_hpo.methods._reconstruction import by_channel, set_weight

        layer = self.channels.layers[name]
        channels = self.channels.widths()[name]
        moments = [self._moments(*reader, channels, dense) for reader in layer.readers]
        before = [by_channel(reader, channels).double() for _, reader in layer.readers]
        problems = [of_beta(*each, weight) for each, weight in zip(moments, before, strict=True)]
        gram, xy = (torch.stack(each).sum(0) for each in zip(*problems, strict=True))
        mask = torch.zeros(channels, dtype=torch.bool, device=gram.device)
        mask[lasso(gram, xy, width)] = True
        kept = self.channels.agreed(mask).nonzero().flatten()
        weights = [
            self.channels.agreed(reconstructed(*each, weight, kept))
            for each, weight in zip(moments, before, strict=True)
        ]
        self.channels.keep(name, kept.tolist())
        for (reader_name, _), weight in zip(layer.readers, weights, strict=True):
            set_weight(self.loop, reader_name, weight)

    def _moments(self, name: str, reader: Any, channels: int, dense: nn.Module) -> tuple[Tensor, Tensor]:
        """X^T X and X^T Y, with X (N x c K) what a reader has in the network, and Y (N x n) what it had at first."""
        import torch

        from oialr_hpo.methods._reconstruction import drawn, finite, inputs_at, look, outputs_at, positions
        from oialr_hpo.oialr.distributed import unwrapped

        generator = torch.Generator().manual_seed(0)
        weight = reader.weight
        n, size = len(weight), weight[0].numel()
        xx, xy = (weight.new_zeros(size, other, dtype=torch.float64) for other in (size, n))
        original = dense.get_submodule(name)
        waiting: list[tuple[Tensor, Tensor]] = []  # positions and X, for Y

        def take_inputs(inputs: Tensor, output: Tensor) -> None:
            at = drawn(len(inputs), positions(reader, output), self.settings.samples, generator)
            x = inputs_at(reader, inputs, channels, at).flatten(2).flatten(0, 1).double()
            xx.add_(x.t() @ x)
            waiting.append((at, x))

        def take_outputs(_: Tensor, output: Tensor) -> None:
            at, x = waiting.pop(0)
            xy.add_(x.t() @ outputs_at(original, output, at).flatten(0, 1).double())

        networks: list[Any] = [(unwrapped(self.loop.model), {reader: take_inputs}), (dense, {original: take_outputs})]
        look(self.loop, self.settings.images, networks)
        return finite(xx, name), finite(xy, name)

    def _planned(self) -> dict[str, int]:
        """The widths with which the network is faster by the factor `speed_up`."""
        from oialr_hpo.methods._reconstruction import front, multiplications

        settings, full = self.settings, self.channels.full_widths()
        pruned = front(list(full), settings.depth)
        shallow = round(SHALLOW * len(full))
        reads = {reader: name for name, layer in self.channels.layers.items() for reader, _ in layer.readers}
        costs = multiplications(self.loop)

        def widths(share: float) -> dict[str, int]:
            shares = [share if i < shallow else min(1.0, share * settings.ratio) for i in range(len(pruned))]
            return {name: max(1, round(each * full[name])) for name, each in zip(pruned, shares, strict=True)}

        def cost(widths: Mapping[str, int]) -> float:
            left = {name: widths.get(name, number) / number for name, number in full.items()}
            return sum(each * left.get(name, 1.0) * left.get(reads.get(name, ""), 1.0) for name, each in costs.items())

        low, high = 0.0, 1.0
        for _ in range(30):
            middle = (low + high) / 2
            if cost(widths(middle)) * settings.speed_up <= cost(full):
                low = middle
            else:
                high = middle
        if low == 0:
            most = cost(full) / cost(widths(low))
            said = f"cp.speed_up {settings.speed_up:g} is beyond reach: a channel in each layer that is pruned"
            warn(f"{said} makes this network {most:.3g} times as fast; lower it, or raise cp.depth")
        return widths(low if settings.speed_up > 1 else 1.0)


def of_beta(xx: Tensor, xy: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Z^T Z (c x c) and Z^T Y (c) of the LASSO on β, with Z's columns X_i W_i^T (N n), |W_i| = 1.

    Args:
        xx, xy: X^T X (c K x c K) and X^T Y (c K x n).
        weight: (n, c, K).
    """
    n, c, k = weight.shape
    norms = weight.transpose(0, 1).flatten(1).norm(dim=1)
    weight = (weight / norms.where(norms > 0, 1.0)[:, None]).flatten(1)
    gram = (xx * (weight.t() @ weight)).view(c, k, c, k).sum((1, 3))
    return gram, (xy * weight.t()).view(c, k, n).sum((1, 2))


def lasso(gram: Tensor, xy: Tensor, most: int) -> list[int]:
    """The channels whose β_i is not zero at the smallest λ with at most `most` of them; never none.

    Args:
        gram: Z^T Z.
        xy: Z^T Y.
    """
    import warnings

    import numpy as np
    from sklearn.linear_model import lars_path_gram

    scale = gram.diagonal().mean().item() or 1.0
    matrix, target = gram.cpu().numpy() / scale, xy.cpu().numpy() / scale
    matrix += 1e-9 * np.eye(len(matrix))  # channels that are combinations of others would end the path before its time
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a path that ends where nothing is left to explain
        _, _, path = lars_path_gram(target, matrix, n_samples=1, method="lasso", max_iter=16 * len(matrix) + 16)
    for beta in abs(path.T[::-1]):
        chosen: list[int] = np.flatnonzero(beta > 1e-12 * beta.max()).tolist()
        if chosen and len(chosen) <= most:
            return chosen
    return [0]


def reconstructed(xx: Tensor, xy: Tensor, weight: Tensor, kept: Tensor) -> Tensor:
    """The weight (n, c', K) for the channels that are left (equation 4), from (n, c, K)."""
    from oialr_hpo.methods._reconstruction import least_squares

    n, c, k = weight.shape
    columns = (kept[:, None] * k + kept.new_tensor(range(k))).flatten()
    found = least_squares(xx[columns][:, columns], xy[columns], weight[:, kept].flatten(1).t())
    return found.t().reshape(n, len(kept), k)
