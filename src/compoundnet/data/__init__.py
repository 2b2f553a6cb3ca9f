"""Pictures: reading and preparing them, the data sets they come in, and the loader that feeds training.

Nothing here imports torch but `data.loader` and the pixel work it calls, which are imported by their own names.
"""

from compoundnet.data.dataset import Dataset, Split
from compoundnet.data.folders import find_images
from compoundnet.data.images import UnreadableImageError, read_image, to_rgb
from compoundnet.data.opening import open_dataset
from compoundnet.data.transforms import preprocess

__all__ = [
    "Dataset",
    "Split",
    "UnreadableImageError",
    "find_images",
    "open_dataset",
    "preprocess",
    "read_image",
    "to_rgb",
]
