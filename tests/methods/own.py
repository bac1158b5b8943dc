"""Methods of a user: one to be searched, some that use a step in their own way, and some that are none."""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from oialr_hpo.methods import Loop, Method, MethodSettings, Step
from oialr_hpo.section import Duration, steps


class TopK(Method):
    """From `delay` on only the largest weights of each matrix are left, and trained."""

    name = "topk"
    of_layers = "densities"

    class Settings(MethodSettings):
        keep: float = Field(0.5, gt=0, le=1, description="share of a matrix's weights")
        delay: Duration = Field(0.25, description="dense before")

        def change_over(self, total_steps: int) -> int:
            return steps(self.delay, total_steps)

    def __init__(self, settings: Settings, loop: Loop) -> None:
        super().__init__(settings, loop)
        self.weights = {name: weight for name, weight in loop.model.named_parameters() if weight.dim() > 1}
        self.masks: dict[str, Tensor] = {}
        self.made = 0

    def make_step(self, step: Step) -> None:
        step.backward()
        for name, mask in self.masks.items():
            self.weights[name].grad *= mask
        self.made += step.update()
        if self.made == self.settings.change_over(self.loop.total_steps):
            self.masks = {name: largest(weight, self.settings.keep) for name, weight in self.weights.items()}
        self.finish(self.loop.model)

    def finish(self, network: nn.Module) -> nn.Module:
        for name, mask in self.masks.items():
            network.get_parameter(name).data *= mask
        return network

    def layers(self) -> dict[str, Any]:
        """Tensors of one element, which are numbers too."""
        return {name: mask.float().mean() for name, mask in self.masks.items()}

    def full_layers(self) -> dict[str, int | float]:
        return dict.fromkeys(self.weights, 1.0)

    def parameters(self) -> tuple[int, int]:
        total, trained = super().parameters()
        dropped = sum(int((~mask).sum()) for mask in self.masks.values())
        return total - dropped, trained - dropped

    def state_dict(self) -> dict[str, Any]:
        return {"masks": self.masks, "made": self.made}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.masks, self.made = state["masks"], state["made"]


def largest(weight: Tensor, share: float) -> Tensor:
    size = weight.detach().abs()
    return size >= size.flatten().sort().values[round((1 - share) * (size.numel() - 1))]


class Twice(Method):
    """First the head is trained, then all else, on the same batches: as DLRT makes its substeps."""

    name = "twice"

    def make_step(self, step: Step) -> None:
        for heads_turn in (True, False):
            for name, parameter in self.loop.model.named_parameters():
                parameter.requires_grad_(name.startswith("head") == heads_turn)
            step.backward()
            others = [p for p in self.loop.model.parameters() if not p.requires_grad]
            assert all(parameter.grad is None for parameter in others)
            step.update()
        self.loop.model.requires_grad_(True)


class OnlyLooks(Method):
    """Takes the gradients for something else than the optimizer, as RigL does in some steps."""

    name = "looks"

    def make_step(self, step: Step) -> None:
        step.backward()
        first = self.norm()
        step.backward()  # the same again, not added up
        if first.isfinite():  # else the scale of float16 was too large, and is lower by now
            torch.testing.assert_close(first, self.norm())

    def norm(self) -> Tensor:
        return torch.stack([p.grad.norm() for p in self.loop.model.parameters() if p.grad is not None]).norm()


class Glances(Method):
    """Looks at a batch before the training."""

    name = "glances"

    def __init__(self, settings: Any, loop: Loop) -> None:
        super().__init__(settings, loop)
        with torch.no_grad():
            loop.loss(loop.model, next(loop.batches()))


class OwnLoss(Method):
    """Its loss has a term that the task does not know."""

    name = "ownloss"

    class Settings(MethodSettings):
        weight: float = Field(0.0, description="of the sum of squares")

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        squares = sum((parameter**2).sum() for parameter in model.parameters())
        return super().loss(model, batch) + self.settings.weight * squares


class LayersInWords(Method):
    name = "words"

    def layers(self) -> dict[str, Any]:
        return {"head": "few"}


class Idle(Method):
    name = "idle"

    def make_step(self, step: Step) -> None:
        pass


def function() -> None:
    pass


class NoMethod:
    name = "mine"


class NoName(Method):
    pass


class OtherSettings(Method):
    name = "mine"
    Settings = dict  # type: ignore[assignment]


class NameOfABuiltIn(Method):
    name = "dense"


class NameOfASection(Method):
    name = "training"


class OtherCall(Method):
    name = "mine"

    def make_step(self) -> None:  # type: ignore[override]
        pass


class SettingsThatRaise(Method):
    name = "mine"

    class Settings(MethodSettings):
        lost: int = 0

        def model_post_init(self, context: Any) -> None:
            raise KeyError("lost")


class AttachingRaises(Method):
    name = "mine"

    def __init__(self, settings: Any, loop: Loop) -> None:
        raise ZeroDivisionError("no layers")
