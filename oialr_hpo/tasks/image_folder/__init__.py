"""`task: image_folder`: images in folders, a class each, such as ImageNet's."""

from typing import TYPE_CHECKING, Any

from oialr_hpo.tasks.image_folder.settings import ImageFolderSettings as Settings

if TYPE_CHECKING:
    from oialr_hpo.tasks.image_folder.task import ImageFolder

__all__ = ["ImageFolder", "Settings"]


def __getattr__(name: str) -> Any:
    if name in ("Task", "ImageFolder"):  # here, since it imports torch
        from oialr_hpo.tasks.image_folder.task import ImageFolder

        return ImageFolder
    raise AttributeError(f"module {__name__} has no attribute {name}")
