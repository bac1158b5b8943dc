"""scikit-learn's 1,797 handwritten digits, 8 x 8, one channel."""

import importlib.util
from pathlib import Path

import numpy as np

from oialr_hpo.tasks.image_classification.decoding import DAMAGE
from oialr_hpo.tasks.image_classification.image_arrays import ImageArrays, Part
from oialr_hpo.tasks.image_classification.splitting import stratified_split
from oialr_hpo.tasks.task import DataError

TEST_FRACTION = 0.2


def load_digits(split: Part) -> ImageArrays:
    """Reads scikit-learn's file without importing the package, which would cost every training process a second.

    Raises:
        DataError: scikit-learn is not installed, or its file is damaged.
    """
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise DataError("digits comes with scikit-learn, which is not installed; pip install scikit-learn")
    file = Path(package.origin).with_name("datasets") / "data" / "digits.csv.gz"
    try:
        table = np.loadtxt(file, delimiter=",")
    except DAMAGE as error:
        raise DataError(f"{file} cannot be read ({error}); install scikit-learn again") from error
    values, labels = table[:, :-1], table[:, -1].astype(np.int64)
    train, test = stratified_split(labels, TEST_FRACTION, seed=0)
    chosen = train if split == "train" else test
    chosen = chosen[np.argsort(labels[chosen], kind="stable")]
    images = np.rint(values[chosen] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    images.flags.writeable = False
    return ImageArrays(images, labels[chosen], tuple(str(digit) for digit in range(10)))
