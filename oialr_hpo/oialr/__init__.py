"""OIALR: Orthogonality-Informed Adaptive Low-Rank training, for any network and training loop."""

from oialr_hpo.oialr.conversion import load_low_rank
from oialr_hpo.oialr.merging import merge
from oialr_hpo.oialr.planning import Report, plan
from oialr_hpo.oialr.schedule import OIALR

__all__ = ["OIALR", "Report", "load_low_rank", "merge", "plan"]
