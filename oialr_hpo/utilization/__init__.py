"""How much of each layer's space the data use: utilized rank, and networks cut down to it.

The method of "Revealing the Utilized Rank of Subspaces of Learning in Neural Networks", arXiv:2407.04797.
"""

from oialr_hpo.utilization.accuracy import Accuracy
from oialr_hpo.utilization.analysis import analyse
from oialr_hpo.utilization.factorise import compact, factorise
from oialr_hpo.utilization.found import LayerUtilization, Utilization

__all__ = ["Accuracy", "LayerUtilization", "Utilization", "analyse", "compact", "factorise"]
