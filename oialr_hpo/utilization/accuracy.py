"""How accurate a network is, and, cheaply, whether a change of one layer leaves it accurate enough.

A change of one layer rarely changes what is said about an image whose right class leads, or trails, by far. So a small
sample tells how much margins change; then images are looked at in the order of their margins, closest first, no further
than needed to tell whether the accuracy stays above a floor, and only from the changed layer on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn

from oialr_hpo.utilization import prefix

CHUNKS = 64
"""Into so many parts the images are divided."""
SMALLEST_CHUNK = 32
CAUTION = 2.0
"""Margins of images not yet seen are taken to change so many times as much as those seen."""


class Accuracy:
    """Top-1 accuracy in percent: `Accuracy(batches)(network)`.

    `analyse` takes any function of a network for this, but only with this one it can do with parts of the images.

    Arguments:
        batches: of inputs and labels (B,), batches first; read anew for every full pass, always in the same order.
            With torch.distributed each process has its own share, and the result is that of all.
        memory: bytes that may hold images and what earlier layers made of them, for `analyse`.
    """

    def __init__(self, batches: Iterable[tuple[Tensor, Tensor]], memory: float = 4 * 2**30) -> None:
        self.batches, self.memory = batches, memory

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> float:
        device = next(network.parameters()).device
        counts = torch.zeros(2, dtype=torch.float64)
        for images, labels in self.batches:
            hits = network(images.to(device)).argmax(1).cpu() == labels.cpu()
            counts += torch.tensor([hits.sum(), len(hits)])
        hits, images_seen = over_processes(counts)
        if images_seen == 0:
            raise ValueError("Accuracy: the batches hold no image; give a list or a DataLoader, not an iterator")
        return (100 * hits / images_seen).item()


class FullPasses:
    """The plain way: an opaque function measures the whole network each time."""

    def __init__(self, evaluate: Callable[[nn.Module], float], network: nn.Module) -> None:
        self._evaluate, self._network = evaluate, network
        self.passes = 0.0
        self.original = self.accuracy()

    def enter(self, layer: str, users: Collection[nn.Module], accuracy: float, changed: bool) -> float:
        """The accuracy of the network as it is, which was just measured."""
        return accuracy

    def accuracy(self, floor: float | None = None) -> float:
        self.passes += 1
        with torch.no_grad():
            return float(self._evaluate(self._network))

    def settled(self, accuracy: float) -> float:
        """What was measured with the layer's present weight is exact already."""
        return accuracy


@dataclass
class _Chunk:
    """Images of similar margin, with what the layers before the present one made of them (None: not kept)."""

    images: Tensor
    labels: Tensor
    margins: Tensor = field(default_factory=lambda: torch.empty(0))
    before: prefix.Results | None = None


class PartialPasses:
    """The thrifty way; see the module's text. The order of `enter` must be that of the forward pass.

    `passes` counts images, each weighed with the share of the network's multiplications it ran through, in units of
    full passes. Where not all images fit into memory, the closest ones are kept and the others read again if needed.
    """

    def __init__(self, accuracy: Accuracy, network: nn.Module, share_from: Mapping[str, float]) -> None:
        self._network, self._share_from, self._accuracy = network, share_from, accuracy
        self._device = next(network.parameters()).device
        self._run, self._share, self._entered = 0.0, 1.0, False
        read = [self._margins(images, labels) for images, labels in accuracy.batches]
        margins = torch.cat([*read, torch.empty(0)])
        if len(margins) == 0:
            raise ValueError("Accuracy: the batches hold no image; give a list or a DataLoader, not an iterator")
        self._count = len(margins)
        self._all = int(over_processes(torch.tensor([float(self._count)], dtype=torch.float64)))
        kept, self._chunks = self._closest(margins)
        self._far = torch.ones(self._count, dtype=torch.bool)
        self._far[kept] = False
        self._far_margins = margins[self._far]
        self.original = self._count_hits()

    @property
    def passes(self) -> float:
        return self._run / self._count

    def enter(self, layer: str, users: Collection[nn.Module], accuracy: float, changed: bool) -> float:
        """Goes on to a layer of the network as it is, and gives that network's accuracy.

        `changed`: since the last layer; where it is not, the margins are still right.
        """
        room = self._accuracy.memory - sum(chunk.images.nbytes for chunk in self._chunks)
        reads = prefix.results_read(self._network, users, self._chunks[0].images[:2].to(self._device))
        before_share, self._share = self._share, self._share_from[layer]
        for chunk in self._chunks:
            images = chunk.images.to(self._device)
            if chunk.before is None and self._entered:  # no room at an earlier layer
                continue
            chunk.before = prefix.record(self._network, users, images, reads, chunk.before or {})
            self._run += (before_share - self._share) * len(images)
            room -= prefix.size(chunk.before)
            if room < 0:
                chunk.before = None
        if changed:
            for chunk in self._chunks:
                chunk.margins = self._margins_of(chunk)
            far = [self._margins(images, labels) for images, labels in self._far_images()]
            self._far_margins = torch.cat([*far, torch.empty(0)])
        self._chunks[1:] = sorted(self._chunks[1:], key=lambda chunk: chunk.margins.abs().median().item())
        self._entered = True
        return self._count_hits()

    def _count_hits(self) -> float:
        hits = sum(float((chunk.margins > 0).sum()) for chunk in self._chunks) + float((self._far_margins > 0).sum())
        self._hits = over_processes(torch.tensor([hits], dtype=torch.float64)).item()
        return 100 * self._hits / self._all

    def accuracy(self, floor: float | None = None) -> float:
        """The accuracy with the layer's present weight, once no image not seen yet should change sides.

        With a floor only precisely enough to tell on which side of it the accuracy is.
        """
        least = None if floor is None else floor * self._all / 100 - 1e-6
        hits, changes = self._hits, torch.empty(0)
        parts = self._parts()
        unseen = torch.cat([*(chunk.margins for chunk in self._chunks), self._far_margins])
        while True:
            part = next(parts, None)
            gained = 0.0
            if part is not None:
                old, new = part
                unseen = unseen[len(old) :]
                gained = float((new > 0).sum() - (old > 0).sum())
                changes = torch.cat([changes, new - old])
            losses, gains = expected_changes(changes, unseen)
            total = torch.tensor([gained, losses, gains, len(unseen)], dtype=torch.float64)
            gained, losses, gains, left = over_processes(total).tolist()
            hits += gained
            lost, won = at_most(losses), at_most(gains)
            decided = least is not None and (hits - lost >= least or hits + won < least)
            if decided or lost + won == 0 or left == 0:
                return 100 * hits / self._all

    def settled(self, accuracy: float) -> float:
        """The accuracy with the layer's present weight, of which `accuracy` may tell no more than a floor needed."""
        return self.accuracy()

    def _parts(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Margins before and now: of the sample, then closest images first."""
        for chunk in self._chunks:
            yield chunk.margins, self._margins_of(chunk)
        position = 0
        for images, labels in self._far_images():
            old = self._far_margins[position : position + len(labels)]
            position += len(labels)
            yield old, self._margins(images, labels)

    def _margins_of(self, chunk: _Chunk) -> Tensor:
        return self._margins(chunk.images, chunk.labels, chunk.before)

    @torch.no_grad()
    def _margins(self, images: Tensor, labels: Tensor, before: prefix.Results | None = None) -> Tensor:
        """By how much the right class leads (above 0) or trails; an infinite lead counts as none."""
        self._run += (1.0 if before is None else self._share) * len(labels)
        logits = prefix.run(self._network, images.to(self._device), before or {}).double()
        right = labels.to(self._device)[:, None]
        lead = logits.gather(1, right).squeeze(1)
        rival = logits.scatter(1, right, -torch.inf).amax(1)
        margins = torch.nan_to_num(lead - rival, nan=-1e30, posinf=-1e30, neginf=-1e30)
        hit = logits.argmax(1) == right.squeeze(1)
        tiny = torch.finfo(torch.float64).tiny
        return torch.where(hit, margins.clamp(min=tiny), margins.clamp(max=-tiny)).cpu()

    def _closest(self, margins: Tensor) -> tuple[Tensor, list[_Chunk]]:
        """Positions of the images to keep, and these in chunks: a sample of all margins, then by growing margin."""
        first = next(iter(self._accuracy.batches))[0]
        room = max(SMALLEST_CHUNK, int(self._accuracy.memory / 2 / max(1, first[0].nbytes)))
        length = max(SMALLEST_CHUNK, -(-self._count // CHUNKS))
        closest = margins.abs().argsort()
        spread = torch.arange(self._count) % max(1, self._count // length) == 0
        order = torch.cat([closest[spread], closest[~spread]])[:room]
        place = torch.full((self._count,), -1)
        place[order] = torch.arange(len(order))
        images = first.new_empty(len(order), *first.shape[1:], device="cpu")
        labels = torch.empty(len(order), dtype=torch.int64)
        position = 0
        for batch_images, batch_labels in self._accuracy.batches:
            places = place[position : position + len(batch_labels)]
            position += len(batch_labels)
            chosen = places >= 0
            images[places[chosen]] = batch_images.cpu()[chosen]
            labels[places[chosen]] = batch_labels.cpu()[chosen]
        lengths = [min(int(spread.sum()), len(order))]
        while sum(lengths) < len(order):
            lengths.append(min(length, len(order) - sum(lengths)))
        parts = zip(images.split(lengths), labels.split(lengths), margins[order].split(lengths), strict=True)
        return order, [_Chunk(*part) for part in parts]

    def _far_images(self) -> Iterator[tuple[Tensor, Tensor]]:
        if not self._far.any():
            return
        position = 0
        for images, labels in self._accuracy.batches:
            far = self._far[position : position + len(labels)]
            position += len(labels)
            if far.any():
                yield images[far.to(images.device)], labels[far.to(labels.device)]


def expected_changes(changes: Tensor, unseen: Tensor) -> tuple[float, float]:
    """How many of the images with these margins will be lost and gained, given the changes of margins seen so far.

    An image changes sides as often as the seen changes, whatever their sign, enlarged by CAUTION, reach its margin.
    """
    if len(unseen) == 0:
        return 0.0, 0.0
    if len(changes) == 0:
        return float((unseen > 0).sum()), float((unseen < 0).sum())
    ordered = (CAUTION * changes.abs()).sort().values
    chance = 1 - torch.searchsorted(ordered, unseen.abs()) / len(changes)
    return chance[unseen > 0].sum().item(), chance[unseen < 0].sum().item()


def at_most(expected: float) -> int:
    """So many events hardly ever are exceeded where so many are expected: two standard deviations above."""
    return int(expected + 2 * expected**0.5)


def over_processes(numbers: Tensor) -> Tensor:
    """Summed over the processes of torch.distributed, where there are some."""
    if dist.is_available() and dist.is_initialized():
        numbers = numbers.cuda() if dist.get_backend() == "nccl" else numbers
        dist.all_reduce(numbers)
    return numbers.cpu()
