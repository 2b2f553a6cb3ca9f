from .dataset import Dataset, Split
from .folders import find_images
from .images import UnreadableImageError, read_image, to_rgb
from .lookup import open_dataset
from .transforms import preprocess

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
