"""Dense training: the network as it is, for comparison."""

from oialr_hpo.methods import Method


class Dense(Method):
    """Nothing more than the loop does."""

    name = "dense"
