"""Whether a change of one layer leaves a network accurate enough, found out cheaply.

A change of one layer rarely changes what is said about an image whose right class leads, or trails, by far. So a small
sample tells how much margins change since networks looked at before, of which the last ones differ little; then images
are looked at, those likeliest to change sides first, no further than needed to tell whether the accuracy stays above a
floor, and only from the changed layer on. All this is probable, not certain: see `python -m oialr_hpo.benchmark
utilization`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from oialr_hpo.utilization import prefix
from oialr_hpo.utilization.accuracy import EMPTY, Accuracy, over_processes
from oialr_hpo.utilization.batches import labelled, logits, marks
from oialr_hpo.utilization.forecast import at_most, by_similarity, forecast, relative_moves

CHUNKS = 64
"""Into so many parts the images are divided."""
SMALLEST_CHUNK = 32
LOOKS = 16
"""So many former networks' margins are remembered."""
MOVES = 4096
"""So many single images' changes are remembered."""
CHANGED = "Accuracy: read again, the batches differ; give them without shuffling and random augmentation"
NOTHING: prefix.Results = {}


@dataclass
class _Chunk:
    """Images of similar margin, with what the layers before the present one made of them, where that is kept."""

    positions: Tensor
    images: Tensor
    labels: Tensor
    before: prefix.Results = field(default_factory=dict)


class PartialPasses:
    """The thrifty way; see the module's text. The order of `enter` must be that of the forward pass.

    `passes` counts images, each weighed with the share of the network's multiplications it ran through, in units of
    full passes. Where not all images fit into memory, the closest ones are kept and the others read again if needed.
    """

    def __init__(self, accuracy: Accuracy, network: nn.Module, share_from: Mapping[str, float]) -> None:
        self._network, self._share_from, self._accuracy = network, share_from, accuracy
        self._device = next(network.parameters()).device
        self._run, self._share = 0.0, 1.0
        read = [(self._margins(*batch), marks(*batch)) for batch in labelled(accuracy.batches)]
        margins = torch.cat([*(part for part, _ in read), torch.empty(0)])
        if len(margins) == 0:
            raise ValueError(EMPTY)
        self._count, self._marks = len(margins), torch.cat([mark for _, mark in read])
        self._chunks = self._closest(margins)
        self._sample = self._chunks[0].positions
        self._far = torch.ones(self._count, dtype=torch.bool)
        self._far[torch.cat([chunk.positions for chunk in self._chunks])] = False
        self._layout: prefix.Layout = {}
        self._kept = len(self._chunks)
        self._looks, self._moves = [margins], torch.empty(0, dtype=torch.float64)
        self._held = margins
        self._all, self._hits = over_processes(torch.tensor([self._count, (margins > 0).sum()]).double()).tolist()
        self.original = 100 * self._hits / self._all

    @property
    def passes(self) -> float:
        return self._run / self._count

    def enter(self, layer: str, users: Collection[nn.Module]) -> None:
        """Goes on to a layer of the network as it is."""
        images = self._chunks[0].images
        few = images[torch.arange(4) % len(images)].to(self._device)
        reads = prefix.results_read(self._network, users, few)
        layout = prefix.layout(self._network, users, few, reads)
        before_share, self._share = self._share, self._share_from[layer]
        room = self._accuracy.memory - sum(chunk.images.nbytes for chunk in self._chunks)
        kept = 0 if layout is None else self._kept
        for number, chunk in enumerate(self._chunks[:kept]):
            images = chunk.images.to(self._device)
            chunk.before = prefix.record(self._network, users, images, reads, chunk.before)
            self._run += (before_share - self._share) * len(images)
            room -= prefix.size(chunk.before)
            if room < 0:
                kept = number
                break
        for chunk in self._chunks[kept:]:
            chunk.before = {}
        self._layout, self._kept = layout or {}, kept

    def accuracy(self, floor: float) -> float:
        """The accuracy with the layer's present weight, only precisely enough to tell on which side of the floor."""
        least = floor * self._all / 100 - 1e-6
        margins = torch.full_like(self._looks[0], torch.nan)
        self._look(margins, self._sample)
        hits = self._most_hits(margins)
        looks = by_similarity(margins, self._looks, self._sample)
        if hits >= least:
            hits = self._look_until_clear(margins, least, looks)
        if hits >= least:
            self._held = margins
        self._moves = torch.cat([self._moves, relative_moves(margins, looks)])[-MOVES:]
        self._looks = [self._looks[0], *self._looks[1:][1 - LOOKS :], margins]
        return 100 * hits / self._all

    def _look_until_clear(self, margins: Tensor, least: float | None, looks: list[tuple[float, Tensor]]) -> float:
        """Fills in margins, those most likely to have changed sides first; how many images are hit.

        Clear is which side of `least` that is, or, without it, that no image not seen yet should change sides.
        """
        moves = self._moves.sort().values
        while True:
            latest, chance = forecast(margins, looks, moves)
            numbers = torch.stack([(latest > 0).sum(), chance[latest > 0].sum(), chance[latest < 0].sum()])
            hits, losses, gains = over_processes(numbers).tolist()
            lost, won = at_most(losses), at_most(gains)
            if lost + won == 0 or least is not None and (hits - lost >= least or hits + won < least):
                return float(hits)
            near = chance.masked_fill(self._far, 0)
            if likely := int(near.count_nonzero()):
                self._look(margins, near.topk(min(likely, len(self._sample))).indices)
            else:
                self._look_far(margins, chance > 0)

    def _most_hits(self, margins: Tensor) -> float:
        """No more images than this should be hit, by the sample: four standard errors above its mean."""
        change = (margins > 0).double()[self._sample] - (self._looks[0] > 0).double()[self._sample]
        variance = (change.var(correction=0) + 1 / len(change)) / len(change)  # as if one more had changed sides
        mean, variance = over_processes(torch.stack([self._count * change.mean(), self._count**2 * variance])).tolist()
        return float(self._hits + mean + 4 * variance**0.5)

    def settled(self, accuracy: float) -> float:
        """The accuracy with the weight that held last, of which `accuracy` may tell no more than a floor needed.

        Goes on with what was seen then; that weight must be in place.
        """
        looks = by_similarity(self._held, self._looks, self._sample)
        return 100 * self._look_until_clear(self._held, None, looks) / self._all

    def _look(self, margins: Tensor, positions: Tensor) -> None:
        """Fills in the margins of some of the images in memory."""
        wanted = torch.zeros(self._count, dtype=torch.bool)
        wanted[positions] = True
        parts = [(chunk, wanted[chunk.positions].nonzero().squeeze(1)) for chunk in self._chunks]
        self._look_at(margins, parts[: self._kept], self._layout, self._share)
        self._look_at(margins, parts[self._kept :], {}, 1.0)

    def _look_at(
        self, margins: Tensor, parts: list[tuple[_Chunk, Tensor]], layout: prefix.Layout, share: float
    ) -> None:
        parts = [(chunk, rows) for chunk, rows in parts if len(rows)]
        if parts:
            images = torch.cat([chunk.images[rows] for chunk, rows in parts])
            labels = torch.cat([chunk.labels[rows] for chunk, rows in parts])
            before = prefix.select([(chunk.before, rows) for chunk, rows in parts], layout)
            positions = torch.cat([chunk.positions[rows] for chunk, rows in parts])
            margins[positions] = self._margins(images, labels, before, share)

    def _look_far(self, margins: Tensor, wanted: Tensor) -> None:
        """Fills in the margins of the wanted images among those that are not in memory."""
        for batch, images, labels in self._read_again():
            chosen = (wanted & self._far)[batch]
            if chosen.any():
                images, labels = images[chosen.to(images.device)], labels[chosen.to(labels.device)]
                margins[batch][chosen] = self._margins(images, labels)

    @torch.no_grad()
    def _margins(self, images: Tensor, labels: Tensor, before: prefix.Results = NOTHING, share: float = 1.0) -> Tensor:
        """By how much the right class leads (above 0) or trails; an infinite lead counts as none."""
        self._run += share * len(labels)
        said = logits(prefix.run(self._network, images.to(self._device), before), labels).double()
        right = labels.to(self._device)[:, None].long()
        lead = said.gather(1, right).squeeze(1)
        rival = said.scatter(1, right, -torch.inf).amax(1)
        margins = torch.nan_to_num(lead - rival, nan=-1e30, posinf=-1e30, neginf=-1e30)
        hit = said.argmax(1) == right.squeeze(1)
        tiny = torch.finfo(torch.float64).tiny
        return torch.where(hit, margins.clamp(min=tiny), margins.clamp(max=-tiny)).cpu()

    def _read_again(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """The batches once more, each with its positions among all images.

        Raises:
            ValueError: they are not what they were.
        """
        position, tolerance = 0, 1e-6 * self._marks.abs().amax(0)
        for images, labels in labelled(self._accuracy.batches):
            batch = slice(position, position + len(labels))
            position += len(labels)
            before, now = self._marks[batch], marks(images, labels)
            if len(before) != len(now) or ((now - before).abs() > tolerance).any():
                raise ValueError(CHANGED)
            yield batch, images, labels
        if position != self._count:
            raise ValueError(CHANGED)

    def _closest(self, margins: Tensor) -> list[_Chunk]:
        """The images to keep: a sample of all margins, then by growing margin."""
        first, _ = next(labelled(self._accuracy.batches))
        room = max(SMALLEST_CHUNK, int(self._accuracy.memory / 2 / max(1, first[0].nbytes)))
        length = max(SMALLEST_CHUNK, -(-self._count // CHUNKS))
        closest = margins.abs().argsort()
        spread = torch.arange(self._count) % max(1, self._count // length) == 0
        order = torch.cat([closest[spread], closest[~spread]])[:room]
        place = torch.full((self._count,), -1)
        place[order] = torch.arange(len(order))
        images = first.new_empty(len(order), *first.shape[1:], device="cpu")
        labels = torch.empty(len(order), dtype=torch.int64)
        for batch, batch_images, batch_labels in self._read_again():
            places = place[batch]
            chosen = places >= 0
            images[places[chosen]] = batch_images.cpu()[chosen]
            labels[places[chosen]] = batch_labels.cpu()[chosen].long()
        lengths = [min(int(spread.sum()), len(order))]
        while sum(lengths) < len(order):
            lengths.append(min(length, len(order) - sum(lengths)))
        parts = zip(order.split(lengths), images.split(lengths), labels.split(lengths), strict=True)
        return [_Chunk(*part) for part in parts]
