"""`task: image_classification`: images that fit into memory as arrays, CIFAR's or scikit-learn's digits."""

from typing import TYPE_CHECKING, Any

from oialr_hpo.tasks.image_classification.settings import ImageClassificationSettings as Settings

if TYPE_CHECKING:
    from oialr_hpo.tasks.image_classification.task import ImageClassification

__all__ = ["ImageClassification", "Settings"]


def __getattr__(name: str) -> Any:
    if name in ("Task", "ImageClassification"):  # here, since it imports torch
        from oialr_hpo.tasks.image_classification.task import ImageClassification

        return ImageClassification
    raise AttributeError(f"module {__name__} has no attribute {name}")
