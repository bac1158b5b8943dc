"""What the margins of images not yet looked at should be: by how much their right class leads (above 0) or trails.

Margins are one number per image, NaN where it was not looked at; a look is what they were with a former network.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

CAUTION = 3.0
"""Margins of images not yet seen are taken to change so many times as much as those seen."""


def by_similarity(margins: Tensor, looks: Iterable[Tensor], sample: Tensor) -> list[tuple[float, Tensor]]:
    """The looks by the median change of the sample since then, smallest first."""
    distances = [((margins - look)[sample].abs().median().item(), look) for look in looks]
    return sorted(distances, key=lambda pair: pair[0])


def forecast(margins: Tensor, looks: Iterable[tuple[float, Tensor]], moves: Tensor) -> tuple[Tensor, Tensor]:
    """All margins, those not seen (NaN) as in the most similar of former looks, and how likely these change sides.

    An image is as likely to change sides as the changes since that look, enlarged by CAUTION, take its margin there:
    changes of the images seen, and, as a small sample has no outliers, `moves` (sorted) of images in former looks, in
    units of the sample's.
    """
    latest, chance = margins.clone(), torch.zeros_like(margins)
    seen = ~margins.isnan()
    for distance, look in looks:
        known = ~look.isnan()
        new = latest.isnan() & known
        if new.any():
            changes = (margins - look)[seen & known].sort().values
            enough = -look[new] / CAUTION
            falls = [torch.searchsorted(each, enough, right=True) for each in (changes, distance * moves)]
            share = (falls[0] + falls[1]).double() / (len(changes) + len(moves))
            chance[new] = torch.where(look[new] > 0, share, 1 - share)
            latest[new] = look[new]
    return latest, chance


def relative_moves(margins: Tensor, looks: Iterable[tuple[float, Tensor]]) -> Tensor:
    """Changes since the most similar look in which the sample differs, in units of the sample's median change."""
    for distance, look in looks:
        if distance > 0:
            moves = (margins - look) / distance
            return moves[~moves.isnan()]
    return torch.empty(0, dtype=torch.float64)


def at_most(expected: float) -> int:
    """So many events hardly ever are exceeded where so many are expected: three standard deviations above."""
    return int(expected + 3 * expected**0.5)
