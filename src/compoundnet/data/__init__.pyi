from .dataset import Dataset, Split
from .folders import find_images
from .lookup import open_dataset, open_for_evaluation

__all__ = [
    "Dataset",
    "Split",
    "find_images",
    "open_dataset",
    "open_for_evaluation",
]
