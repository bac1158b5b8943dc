"""Image files for torch's loaders, whose processes tell of an image that they cannot read."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch.utils.data import Dataset

from oialr_hpo.tasks.image_classification.classification import Batch
from oialr_hpo.tasks.image_folder.reading import read_rgb
from oialr_hpo.tasks.task import DataError


class FolderImages(Dataset[Any]):
    """Image files and their labels, as timm's loader wants them: `transform` is set by it."""

    def __init__(self, files: Sequence[str], labels: Sequence[int]):
        self.files, self.labels = files, labels
        self.transform: Any = None

    def part(self, chosen: Sequence[int]) -> "FolderImages":
        return FolderImages([self.files[i] for i in chosen], [self.labels[i] for i in chosen])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        try:
            image = read_rgb(self.files[index])
        except DataError as error:
            raise Unreadable(str(error)) from None
        return self.transform(image), self.labels[index]


class Unreadable(Exception):
    """What a process of a loader says of an image."""


class Batches:
    """A loader's batches; an image that one of its processes cannot read is an error of one line."""

    def __init__(self, loader: Iterable[Batch]):
        self._loader = loader

    def __iter__(self) -> Iterator[Batch]:
        try:
            yield from self._loader
        except Unreadable as error:  # torch has put the traceback of its process before the message
            raise DataError(str(error).strip().splitlines()[-1].rpartition(f"{Unreadable.__name__}: ")[2]) from None
