"""CIFAR-10 and CIFAR-100, as their authors distribute them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Archive:
    """The official distribution of a data set.

    Attributes:
        folder: of the pickles, in the tar file or unpacked.
        train, test: patterns of their files.
        meta: file with the classes' names, under the key `label_names`.
        labels: key of the labels in the other files.
        classes: how many there are.
        torchvision: the class that downloads it.
    """

    folder: str
    train: str
    test: str
    meta: str
    labels: str
    label_names: str
    classes: int
    torchvision: str

    @property
    def tar(self) -> str:
        return self.folder.removesuffix("-batches-py").removesuffix("-python") + "-python.tar.gz"


ARCHIVES = {
    "cifar10": Archive(
        folder="cifar-10-batches-py",
        train="data_batch_*",
        test="test_batch",
        meta="batches.meta",
        labels="labels",
        label_names="label_names",
        classes=10,
        torchvision="CIFAR10",
    ),
    "cifar100": Archive(
        folder="cifar-100-python",
        train="train",
        test="test",
        meta="meta",
        labels="fine_labels",
        label_names="fine_label_names",
        classes=100,
        torchvision="CIFAR100",
    ),
}
