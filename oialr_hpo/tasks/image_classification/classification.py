"""Loss and metrics of a network that classifies images."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oialr_hpo.mistake import Mistake

Batch = tuple[Tensor, Tensor]


def check_batch(batch_size: int, samples: int) -> None:
    """Raises:
    Mistake: a batch is larger than what is trained on.
    """
    if batch_size > samples:
        raise Mistake(f"training.batch_size {batch_size} exceeds the {samples} training images; lower it")


class Seen:
    """How a network does on what it learns from: images as they were augmented, with the weights of their step."""

    def __init__(self) -> None:
        self._hits: Tensor | float = 0.0
        self._images = 0

    def see(self, logits: Tensor, labels: Tensor) -> None:
        """Take in a batch; nothing waits for the device."""
        self._hits = self._hits + (logits.detach().argmax(1) == labels).sum()
        self._images += len(labels)

    def take(self) -> dict[str, tuple[Tensor | float, int]]:
        """top1 in percent, as a sum over the images and their number, since the last call."""
        taken = {"top1": (100.0 * self._hits, self._images)}
        self._hits, self._images = 0.0, 0
        return taken


def classification_loss(model: nn.Module, batch: Batch, classes: int, label_smoothing: float, seen: Seen) -> Tensor:
    """Cross-entropy of a network's logits; where it is for a step of training, they have been `seen`.

    Raises:
        Mistake: the network does not tell so many classes apart.
    """
    images, labels = batch
    logits = model(images)
    if not isinstance(logits, Tensor) or logits.dim() != 2 or logits.shape[1] < classes:
        found = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise Mistake(
            f"model: outputs of {found} for {len(labels)} images do not tell {classes} classes apart; "
            f"set model.arguments.num_classes to {classes}"
        )
    if model.training and torch.is_grad_enabled():
        seen.see(logits, labels)
    return F.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing)


def classification_metrics(model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
    """Cross-entropy, top1 and top5 in percent, and error = 1 - top-1 as a fraction."""
    sums = torch.zeros(3, device=next(model.parameters()).device)
    count = 0
    for images, labels in batches:
        logits = model(images).float()
        hits = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
        sums += torch.stack([F.cross_entropy(logits, labels, reduction="sum"), hits[:, 0].sum(), hits.sum()])
        count += len(labels)
    loss, top1, top5 = sums.tolist()
    return {"loss": loss / count, "top1": 100 * top1 / count, "top5": 100 * top5 / count, "error": 1 - top1 / count}
