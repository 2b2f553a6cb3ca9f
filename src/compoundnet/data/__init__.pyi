from .dataset import Dataset, Split
from .folders import find_images
from .lookup import open_dataset

__all__ = [
    "Dataset",
    "Split",
    "find_images",
    "open_dataset",
]
