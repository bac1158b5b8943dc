"""How a network is trained small: a method is told of the one training loop's steps, and may change what they do.

A method is named in an experiment file by a file of this room, or as `package.module:Class`; its settings stand in a
section under its own `name`. These files import no torch before they train.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, get_args

from oialr_hpo.extension import Room, wrong_call
from oialr_hpo.section import Section

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = ["Loop", "Method", "MethodSettings", "OfLayers", "Step"]

OfLayers = Literal["ranks", "widths", "densities"]
"""What of a layer a method makes smaller, as records and pictures call it."""
OF_LAYERS: tuple[OfLayers, ...] = get_args(OfLayers)
FULL = tuple(f"full_{name}" for name in OF_LAYERS)
"""The same of the dense network, as a trial's first record says it."""
METHODS = Room("oialr_hpo.methods", "method")
DEFAULT = "oialr"
"""The method of a file that names none."""


class MethodSettings(Section):
    """A method's own section of an experiment file; without settings as it is."""

    def change_over(self, total_steps: int) -> int | None:
        """The optimizer step of a run at which the network becomes smaller at once, where the settings tell."""
        return None


@dataclass
class Loop:
    """The training that a method is part of.

    Attributes:
        model: the network on its device; where several processes train it, inside DistributedDataParallel.
        optimizer: of its parameters. Who replaces a parameter replaces it here too.
        loss: of the task: the scalar to minimise, of the model and a batch.
        total_steps: optimizer steps of a run that is not ended before.
        steps_per_epoch: optimizer steps of an epoch.
        averages: of the network's weights; they are to have its shapes.
        batches: gives training batches afresh, the same each time, for a method that looks at data of its own.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss: Callable[[nn.Module, Any], Tensor]
    total_steps: int
    steps_per_epoch: int
    averages: list[nn.Module]
    batches: Callable[[], Iterator[Any]]


class Step(Protocol):
    """One optimizer step, which a method makes."""

    def backward(self) -> None:
        """Fill in the gradients of the method's loss, of all processes, neither scaled nor clipped yet.

        Called again, it does so anew with the same batches.
        """

    def update(self) -> bool:
        """Clip the gradients, let the optimizer use them, and clear them.

        Returns:
            whether it used them: in float16 those that are infinite are skipped.
        """


class Method:
    """How a network is trained; what a method does not say is dense training.

    Args:
        settings: its section, of the class `Settings`.
        loop: the training, before its first step and before a checkpoint is loaded.

    Attributes:
        name: of its section in an experiment file; a built-in method's is that of its file.
        Settings: checks this section.
        of_layers: what `layers` tells.
    """

    name: ClassVar[str]
    Settings: ClassVar[type[MethodSettings]] = MethodSettings
    of_layers: ClassVar[OfLayers] = "ranks"

    def __init__(self, settings: Any, loop: Loop) -> None:
        self.settings, self.loop = settings, loop

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The scalar to minimise; called under autocast where that is on."""
        return self.loop.loss(model, batch)

    def make_step(self, step: Step) -> None:
        """Make one optimizer step; the learning rate is set, and averages are updated afterwards."""
        step.backward()
        step.update()

    def layers(self) -> dict[str, int | float]:
        """What is left of each layer that is smaller now, by its name: ranks, widths or densities.

        The first epoch that tells some ends with the change-over behind it: early stopping lets the network recover.
        """
        return {}

    def full_layers(self) -> dict[str, int | float]:
        """The same of the dense network, for all layers that may become smaller; asked once, after the first epoch."""
        return {}

    def parameters(self) -> tuple[int, int]:
        """Numbers of the network's parameters, frozen ones too, and of those that are trained."""
        return parameters(self.loop.model)

    def tracked(self) -> list[str]:
        """Names of the layers whose weights can be compared with themselves some epochs before."""
        from oialr_hpo.oialr import plan

        return [layer.name for layer in plan(self.loop.model) if not layer.reason]

    def finish(self, network: nn.Module) -> nn.Module:
        """A trained network, the model or a copy of it or its average, as it is used from now on: what computes the
        same without what only training needs. It may be changed in place."""
        return network

    @classmethod
    def load_weights(cls, network: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
        """A fresh network of the task with these weights, which may be of a network that this method made smaller."""
        network.load_state_dict(weights)
        return network

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of the method: plain values, tensors, lists and dicts of them."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken; called before the states of the model, the optimizer and the averages
        are loaded, which get here the shapes that they had then."""


def parameters(network: nn.Module) -> tuple[int, int]:
    """Numbers of a network's parameters, frozen ones too, and of those that are trained."""
    numbers = [(parameter.numel(), parameter.requires_grad) for parameter in network.parameters()]
    return sum(number for number, _ in numbers), sum(number for number, trained in numbers if trained)


def load_method(method: str) -> type[Method]:
    """The class of a method.

    Raises:
        LookupError: there is no such method, or it lacks what a method has.
    """
    loaded: type[Method] = METHODS.load(method)
    if method not in METHODS.names() and (wrong := _wrong_with(loaded)):
        raise LookupError(f"{method!r} is no method: {wrong}; see oialr_hpo.methods.Method")
    return loaded


def name_of(method: str) -> str:
    """What a method is called: as its section; where its class is not installed, as that."""
    try:
        return load_method(method).name
    except LookupError:
        return method.rpartition(":")[2]


def _wrong_with(method: object) -> str | None:
    """What makes a method unusable, as far as its class tells."""
    if not isinstance(method, type):
        return f"it is no class but {type(method).__name__}"
    if not issubclass(method, Method):
        return "it does not extend oialr_hpo.methods.Method"
    name = getattr(method, "name", None)
    if not (isinstance(name, str) and name.isidentifier()):
        return "it has no name for its section of the file, such as name = 'mine'"
    if name in METHODS.names():
        return f"{name} is a built-in method; choose another name"
    if not (isinstance(method.Settings, type) and issubclass(method.Settings, MethodSettings)):
        return "its Settings do not extend oialr_hpo.methods.MethodSettings"
    asked = ("__init__", *(name for name, each in vars(Method).items() if callable(each) and not name.startswith("_")))
    return wrong_call(method, Method, [name for name in asked if name != "Settings"])
