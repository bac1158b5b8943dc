"""Hyperparameter search around OIALR: Orthogonality-Informed Adaptive Low-Rank training."""
