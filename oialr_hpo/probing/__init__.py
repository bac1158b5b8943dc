"""A short dense training narrows the search of OIALR's own settings.

The first share of a dense run tells, for every layer that OIALR would convert:

- when its bases settle: from which epoch on its stability (OIALR paper, equation 4) stays at `SETTLED` or above;
- its utilized rank (arXiv:2407.04797) at the end, and the cut that keeps it: the singular value of that place over the
  largest one.

From these follow ranges for d, β, α, and whether the first and last layer are to stay dense; see `narrow`. All other
settings keep the ranges that they had.
"""

from oialr_hpo.probing.document import document
from oialr_hpo.probing.file import probe, probed
from oialr_hpo.probing.narrowing import Narrowed, narrow, narrowed
from oialr_hpo.probing.observation import SHARE, TOLERANCE, Layer, Observation, settling

__all__ = [
    "SHARE",
    "TOLERANCE",
    "Layer",
    "Narrowed",
    "Observation",
    "document",
    "narrow",
    "narrowed",
    "probe",
    "probed",
    "settling",
]
