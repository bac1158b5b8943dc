"""Several analyses beside each other, as pictures: their snapshots, and what they were cut down to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from oialr_hpo.utilization.kept import Kept


def draw(results: Sequence[Kept], out: Path) -> list[Path]:
    """Write snapshots.png and, of results that say how large their networks were, bubbles.png."""
    from oialr_hpo.utilization.bubbles import bubbles  # here, since options need no matplotlib
    from oialr_hpo.utilization.snapshot import save, snapshots

    figures = {"snapshots": snapshots(results), "bubbles": bubbles(results)}
    paths = []
    for name, figure in figures.items():
        if figure:
            paths.append(out / f"{name}.png")
            save(figure, paths[-1])
    return paths
