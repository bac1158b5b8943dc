"""ThiNet: channels are removed whose sum the next layer misses least (Luo, Wu, Lin 2017, arXiv:1707.06342).

The network is trained dense first, as the paper begins with a trained one. Then, from the front to the back, a layer at
a time (section 3.1):

- Training examples are collected (3.2.1): an output of the next layer, without its bias, is a sum of one contribution
  from each of the layer's channels. Ten are drawn from an image, at random positions and of random output channels.
- C (1 - r) channels T are removed, chosen greedily such that their contributions' sum, squared and added up over all
  examples, is smallest (3.2.2, equation 6, Algorithm 1).
- The next layer's weights of a channel that is left are scaled, by the factors whose weighted sum of the contributions
  is nearest to the output in the sense of least squares (3.2.3, equation 7).
- The network is fine-tuned until the next layer's turn (paper: for one or two epochs), and for the rest of the run
  after the last one. A layer whose turn comes after the run's end stays whole.

The paper draws 10 images from each of ImageNet's 1000 categories; here they are the first of an epoch. In VGG-16 it
prunes 10 of 13 layers (conv1_1 to conv4_3), `depth`, and in residual networks those inside of the blocks, of all
blocks. Scaled weights start afresh in the optimizer, and averages of the weights get them too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from oialr_hpo.methods import Loop, MethodSettings
from oialr_hpo.methods._narrowing import Narrowing
from oialr_hpo.section import Duration, steps

if TYPE_CHECKING:
    from torch import Tensor


class ThiNet(Narrowing):
    """Prunes the outputs of convolutions that only other layers read."""

    name = "thinet"

    class Settings(MethodSettings):
        """ThiNet's own settings (arXiv:1707.06342, sections 3 and 4)."""

        delay: Duration = Field(default=0.2, description="dense, before the first layer is pruned; at least 1 step")
        span: Duration = Field(
            default=0.25, description="from the first layer's pruning on, shared by all layers: each one's fine-tuning"
        )
        keep: float = Field(default=0.5, gt=0, le=1, description="r: share of a layer's channels that is left")
        depth: float = Field(
            default=0.77, gt=0, le=1, description="share of the layers, from the front, that is pruned (VGG-16: 10/13)"
        )
        images: int = Field(default=10_000, ge=1, description="from which examples are drawn, at most an epoch's")
        samples: int = Field(default=10, ge=1, description="examples from each image")

        def change_over(self, total_steps: int) -> int:
            return max(1, steps(self.delay, total_steps))

    def __init__(self, settings: Settings, loop: Loop) -> None:
        from oialr_hpo.methods._reconstruction import front

        super().__init__(settings, loop)
        begin, span = settings.change_over(loop.total_steps), steps(settings.span, loop.total_steps)
        names = front(list(self.channels.layers), settings.depth)
        self._turns = {name: begin + i * span // len(names) for i, name in enumerate(names)}

    def narrow(self) -> None:
        for name, turn in self._turns.items():
            if turn == self.steps:
                self._prune(name)

    def _prune(self, name: str) -> None:
        import torch

        from oialr_hpo.methods._reconstruction import by_channel, set_weight

        layer = self.channels.layers[name]
        channels = self.channels.widths()[name]
        number = channels - max(1, round(self.settings.keep * channels))
        if not number:
            return
        products = [self._products(*reader, channels) for reader in layer.readers]
        removed = torch.zeros(channels, dtype=torch.bool, device=products[0].device)
        removed[greedy(torch.stack(products).sum(0), number)] = True
        kept = (~self.channels.agreed(removed)).nonzero().flatten()
        weights = [
            self.channels.agreed(by_channel(reader, channels)[:, kept] * scales(each, kept)[:, None])
            for each, (_, reader) in zip(products, layer.readers, strict=True)
        ]
        self.channels.keep(name, kept.tolist())
        for (reader_name, _), weight in zip(layer.readers, weights, strict=True):
            set_weight(self.loop, reader_name, weight)

    def _products(self, name: str, reader: Any, channels: int) -> Tensor:
        """X^T X (channels x channels), with X the contributions of the channels (columns) in all examples (rows)."""
        import torch

        from oialr_hpo.methods._reconstruction import by_channel, drawn, finite, inputs_at, look, positions
        from oialr_hpo.oialr.distributed import unwrapped

        generator = torch.Generator().manual_seed(0)
        weight = by_channel(reader, channels)
        total = weight.new_zeros(channels, channels, dtype=torch.float64)

        def take(inputs: Tensor, output: Tensor) -> None:
            n = len(weight)
            example = drawn(len(inputs), positions(reader, output) * n, self.settings.samples, generator)
            ours = inputs_at(reader, inputs, channels, example // n) * weight[example.to(weight.device) % n]
            contributions = ours.double().sum(-1).flatten(0, 1)
            total.add_(contributions.t() @ contributions)

        look(self.loop, self.settings.images, [(unwrapped(self.loop.model), {reader: take})])
        return finite(total, name)


def greedy(products: Tensor, number: int) -> list[int]:
    """The channels T of Algorithm 1: one after another the one with which the sum of T's contributions, squared and
    added up over all examples, is smallest; of equal ones the first.

    Args:
        products: of the contributions, X^T X.
        number: of channels in T.
    """
    removed: list[int] = []
    increase = products.diagonal().clone()  # of the objective, by each channel
    for _ in range(number):
        removed.append(int(increase.argmin()))
        increase += 2 * products[removed[-1]]
        increase[removed] = float("inf")
    return removed


def scales(products: Tensor, kept: Tensor) -> Tensor:
    """ŵ of equation 7 for the channels that are left; where it is not unique, the one nearest to ones."""
    from oialr_hpo.methods._reconstruction import least_squares

    ours = products[kept]
    return least_squares(ours[:, kept], ours.sum(1), ours.new_ones(len(kept)))
