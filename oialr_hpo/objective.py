"""What a search runs for every trial, by the name that scripts give it: `oialr_hpo.objective:evaluate`."""

from oialr_hpo.training.objective import build_task, evaluate

__all__ = ["build_task", "evaluate"]
