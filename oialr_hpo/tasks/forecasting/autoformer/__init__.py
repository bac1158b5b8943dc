"""Autoformer: Wu, Xu, Wang and Long, "Autoformer: Decomposition Transformers with Auto-Correlation for
Long-Term Series Forecasting", NeurIPS 2021. Section and equation numbers refer to that paper.

The architecture and the names of the parameters are the original's, so that its checkpoints load. Series are
(batch, length, channels) throughout.
"""

from oialr_hpo.tasks.forecasting.autoformer.network import Autoformer

__all__ = ["Autoformer"]
