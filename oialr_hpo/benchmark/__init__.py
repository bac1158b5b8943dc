"""Measurements: `python -m oialr_hpo.benchmark NAME`, a module of this package per name."""
