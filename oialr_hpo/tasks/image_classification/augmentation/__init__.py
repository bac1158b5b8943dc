"""timm's training transform for small images, on whole batches and on the device that trains.

Every operation follows what PIL does to one image, so that published recipes keep their meaning; see
`timm.data.create_transform` and `timm/data/auto_augment.py`. Images are (B, C, H, W) uint8 between
operations, as PIL rounds them there too. What to do with which image is drawn on the CPU: the GPU is never
waited for, and its images get the same crops and operations as they would on the CPU.
"""

from oialr_hpo.tasks.image_classification.augmentation.normalising import normalise
from oialr_hpo.tasks.image_classification.augmentation.transform import TrainAugmentation

__all__ = ["TrainAugmentation", "normalise"]
