"""GAL: generative adversarial learning of soft masks (Lin et al., CVPR 2019, arXiv:1903.09291; authors' code: main.py).

A run has three parts:

- The network is trained as it is. A copy of it is the baseline f_b from then on.
- The network f_g, with a mask m on what its layers give to those that read them, learns the baseline's outputs, without
  labels. In turn a discriminator D learns to tell both apart (`_adversary.discriminator_loss`), and the weights and the
  masks learn to deceive it and to come near the baseline (`_adversary.generator_loss`): the weights by the training's
  own optimizer and schedule, the masks under the penalty λ |m|_1 by FISTA (`_fista.Masks`).
- Channels whose mask is zero are removed, the other masks become part of the weights that read them, and the network is
  fine-tuned with the task's loss.

The paper masks blocks and branches too; here, as in its VGG, channels. From the authors' code: masks start from N(0, 1)
and none is negative; D is kept from winning by the adversarial regularisation; f_g maximises log D; η falls to a tenth
after every 30 % of the second part, where FISTA starts anew. Unlike there, each batch moves the masks (every 200th),
FISTA takes the gradient at y (at m), the penalty acts once (by its gradient as well), D has ReLUs and torch's initial
weights (no activations, and the sigmoid twice), L_data is 1/(2n) of the squared distances (a multiple of it, for each
network another), and the baseline is in eval mode.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from oialr_hpo.methods import Loop, MethodSettings, Step
from oialr_hpo.methods._narrowing import Narrowing
from oialr_hpo.section import Duration, steps

if TYPE_CHECKING:
    from torch import Tensor, nn

MASK = "gal_mask"


class GAL(Narrowing):
    """Masks the output channels of all convolutions that can lose some without touching another layer's.

    Raises:
        ValueError: there are none, or the network's output is no tensor.
        TypeError: the optimizer cannot follow weights whose shape changes.
    """

    name = "gal"

    class Settings(MethodSettings):
        """GAL's own settings (section 3), and how long its parts are."""

        sparsity: float = Field(default=0.05, ge=0, description="λ: of the masks' L1 norm, beside the losses")
        lr: float = Field(default=0.01, gt=0, description="η: of masks and discriminator, at first")
        delay: Duration = Field(default=0.333333333, description="until the network is the baseline")
        adversarial: Duration = Field(
            default=0.333333333, description="length of the adversarial part, then fine-tuning"
        )

        def change_over(self, total_steps: int) -> int:
            return min(total_steps, steps(self.delay, total_steps) + max(1, steps(self.adversarial, total_steps)))

    def __init__(self, settings: Settings, loop: Loop) -> None:
        import torch

        from oialr_hpo.methods._adversary import Adversary
        from oialr_hpo.methods._fista import Masks
        from oialr_hpo.oialr.averages import copy_in
        from oialr_hpo.oialr.distributed import process_group, unwrapped
        from oialr_hpo.oialr.randomness import random_state_kept

        super().__init__(settings, loop)
        self.network = unwrapped(loop.model)
        self._averages = [copy_in(average, self.network) for average in loop.averages]
        self._group = process_group(loop.model)
        self._from, self._until = steps(settings.delay, loop.total_steps), settings.change_over(loop.total_steps)
        device = next(self.network.parameters()).device
        with random_state_kept(device):
            with torch.no_grad():
                outputs = self._outputs(copy.deepcopy(self.network).eval(), next(loop.batches()))
            self._adversary = Adversary(outputs.shape[1], device, self._group)
            starts = {name: torch.randn(width).to(device) for name, width in self.channels.widths().items()}
        self._masks = Masks({name: self.channels.agreed(start) for name, start in starts.items()})
        self._baseline: nn.Module | None = None

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        if self._baseline is None:
            return super().loss(model, batch)
        import torch

        with torch.no_grad():
            targets = self._outputs(self._baseline, batch)
        outputs = self._outputs(model, batch)
        with torch.autocast(outputs.device.type, enabled=False):
            self._adversary.learn(outputs.detach(), targets, self._eta())
            return self._adversary.loss(outputs, targets)

    def make_step(self, step: Step) -> None:
        if self._from <= self.steps < self._until and self._baseline is None:
            self._begin()
        step.backward()
        gradients = self._take_gradients()
        if not step.update():
            return
        eta, self.steps = self._eta(), self.steps + 1
        if self._baseline is None:
            return
        self._masks.step(gradients, eta, self.settings.sparsity)
        self._show()
        if self.steps == self._until:
            self._end()
        elif self._eta() < eta:
            self._masks.restart()

    def _outputs(self, model: nn.Module, batch: Any) -> Tensor:
        """What the network gives for a batch, a row a sample."""
        from torch import Tensor

        from oialr_hpo.oialr.distributed import unwrapped

        found: list[Tensor] = []

        def keep(module: nn.Module, _: Any, output: Any) -> None:
            if not isinstance(output, Tensor) or output.dim() == 0:
                raise ValueError(
                    f"gal: {type(module).__name__} gives no tensor but {type(output).__name__}; take another method, "
                    "such as sfp"
                )
            found.append(output)

        with unwrapped(model).register_forward_hook(keep):
            self.loop.loss(model, batch)
        return found[0].reshape(len(found[0]), -1).float()

    def _eta(self) -> float:
        """η, which falls to a tenth after every 30 % of the adversarial part."""
        period = max(1, round(0.3 * (self._until - self._from)))
        eta: float = self.settings.lr * 0.1 ** (max(0, self.steps - self._from) // period)
        return eta

    def _begin(self, values: Mapping[str, Tensor] | None = None) -> None:
        """The network, or a copy of it with these values, is the baseline; from here on its readers see masks."""
        self._baseline = copy.deepcopy(self.network).eval().requires_grad_(False)
        if values is not None:
            self._baseline.load_state_dict(values)
        for network in (self.network, *self._averages):
            for name, layer in self.channels.layers.items():
                for reader, _ in layer.readers:
                    attach_mask(network.get_submodule(reader), self._masks.values[name], self._masks.points[name])
        self.loop.optimizer.param_groups[0]["params"] += self._masks.points.values()  # float16 unscales their gradients

    def _take_gradients(self) -> dict[str, Tensor]:
        """Those of the masks, of all processes; the training's optimizer does not see them."""
        import torch.distributed as dist

        gradients = {}
        for name, point in self._masks.points.items():
            if point.grad is not None:
                gradients[name], point.grad = point.grad, None
                if self._group is not None:
                    dist.all_reduce(gradients[name], group=self._group)
                    gradients[name] /= self._group.size()
        return gradients

    def _show(self) -> None:
        """The masks as they are, to the network outside of training."""
        for name, layer in self.channels.layers.items():
            for reader, _ in layer.readers:
                self.network.get_submodule(reader).get_buffer(MASK).copy_(self._masks.values[name])

    def _end(self) -> None:
        """Removes the channels whose mask is zero; of a layer without others the first one stays, as in the code."""
        self._baseline = None
        points = {id(point) for point in self._masks.points.values()}
        group = self.loop.optimizer.param_groups[0]
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in points]
        for network in (self.network, *self._averages):
            fold_all(network)
        kept = {name: values.nonzero().flatten().tolist() for name, values in self._masks.values.items()}
        self.channels.keep_all({name: channels or [0] for name, channels in kept.items()})

    def layers(self) -> dict[str, int | float]:
        return {**self.channels.widths()} if self.steps >= self._until else {}

    def finish(self, network: nn.Module) -> nn.Module:
        fold_all(network)
        return network

    @classmethod
    def load_weights(cls, network: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
        masks = {name: value for name, value in weights.items() if name.endswith(f".{MASK}")}
        network = super().load_weights(network, {name: each for name, each in weights.items() if name not in masks})
        for name, value in masks.items():
            fold(network.get_submodule(name.removesuffix(f".{MASK}")), value)
        return network

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "masks": self._masks.state_dict(),
            "adversary": self._adversary.state_dict(),
            "baseline": self._baseline.state_dict() if self._baseline is not None else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._masks.load_state_dict(state["masks"])
        self._adversary.load_state_dict(state["adversary"])
        if state["baseline"] is not None:
            self._begin(state["baseline"])


class _Masked:
    """Before a layer's forward: its input's channels times the mask; in training, times the point of FISTA."""

    def __init__(self, point: Tensor) -> None:
        self.point = point

    def __call__(self, reader: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        x, *others = arguments
        factor = self.point if reader.training else reader.get_buffer(MASK)
        return ((x * over_inputs(reader, factor, x.dim())).to(x.dtype), *others)


def over_inputs(reader: nn.Module, values: Tensor, dim: int) -> Tensor:
    """A value a channel, as a factor of a layer's input or weight of so many dimensions; a Linear may read several
    features of a channel, one after another."""
    from torch import nn

    if isinstance(reader, nn.Linear):
        return values.repeat_interleave(reader.in_features // len(values))
    return values.view(-1, *[1] * (dim - 2))


def attach_mask(reader: nn.Module, values: Tensor, point: Tensor) -> None:
    """The layer's input is masked from now on."""
    reader.register_buffer(MASK, values.clone())
    reader.register_forward_pre_hook(_Masked(point))


def fold(reader: nn.Module, values: Tensor) -> None:
    """The mask becomes part of the layer's weights."""
    weight = reader.get_parameter("weight")
    weight.data.mul_(over_inputs(reader, values.to(weight.device), weight.dim()))


def fold_all(network: nn.Module) -> None:
    """The network computes the same without masks."""
    for reader in network.modules():
        if MASK in reader._buffers:
            fold(reader, reader.get_buffer(MASK))
            del reader._buffers[MASK]
            hooks = reader._forward_pre_hooks
            for key in [key for key, hook in hooks.items() if isinstance(hook, _Masked)]:
                del hooks[key]
