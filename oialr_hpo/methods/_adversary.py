"""GAL's losses, and the discriminator between pruned network and baseline (arXiv:1903.09291, section 3)."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from oialr_hpo.oialr.distributed import agreed

HIDDEN = 128, 256, 128
MOMENTUM, WEIGHT_DECAY = 0.9, 2e-4


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """-E[log D(f_b)] - E[log(1 - D(f_g))] - E[log D(f_g)].

    The last term is the paper's adversarial regularisation, which keeps D from winning.

    Args:
        real, fake: D's logits of the outputs f_b of the baseline and f_g of the pruned network, one a sample.
    """
    return -F.logsigmoid(real).mean() - F.logsigmoid(-fake).mean() - F.logsigmoid(fake).mean()


def generator_loss(fake: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
    """L_adv + L_data = -E[log D(f_g)] + 1/(2n) Σ |f_b - f_g|².

    Args:
        fake: D's logits of the pruned network's outputs, one a sample.
        outputs: these, f_g (n x features).
        targets: the baseline's, f_b (n x features).
    """
    return -F.logsigmoid(fake).mean() + (targets - outputs).square().sum() / (2 * len(outputs))


class Adversary:
    """The discriminator D, a perceptron of 128, 256 and 128 hidden units, with an optimizer of its own: SGD with the
    momentum and weight decay of the authors' code.

    Args:
        features: of a sample's output.
        group: of processes that train together.
    """

    def __init__(self, features: int, device: torch.device, group: Any = None) -> None:
        widths = (features, *HIDDEN)
        hidden = [part for m, n in zip(widths, HIDDEN, strict=False) for part in (nn.Linear(m, n), nn.ReLU())]
        self.network = nn.Sequential(*hidden, nn.Linear(HIDDEN[-1], 1)).to(device)
        self.optimizer = torch.optim.SGD(self.network.parameters(), momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
        self._group = group
        for parameter in self.network.parameters():
            parameter.data = agreed(parameter.data, group)

    def learn(self, outputs: Tensor, targets: Tensor, eta: float) -> None:
        """A step of D on the samples of all processes, with the learning rate η."""
        with torch.enable_grad():
            loss = discriminator_loss(self.network(targets), self.network(outputs))
            gradients = torch.autograd.grad(loss * len(outputs), list(self.network.parameters()))
        count = torch.tensor(float(len(outputs)), device=outputs.device)
        for each in (count, *gradients):
            if self._group is not None:
                dist.all_reduce(each, group=self._group)
        if not all(bool(gradient.isfinite().all()) for gradient in gradients):
            return  # in float16; the scale of the loss is lowered then
        for parameter, gradient in zip(self.network.parameters(), gradients, strict=True):
            parameter.grad = gradient / count
        self.optimizer.param_groups[0]["lr"] = eta
        self.optimizer.step()
        self.optimizer.zero_grad()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Of the pruned network, whose outputs have a graph; D is as it is."""
        frozen = {name: parameter.detach() for name, parameter in self.network.named_parameters()}
        fake = torch.func.functional_call(self.network, frozen, (outputs,))
        return generator_loss(fake, outputs, targets)

    def state_dict(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
