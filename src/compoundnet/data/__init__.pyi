from .check import DataCheck, check_data
from .dataset import Dataset, Split, Understanding
from .folders import find_images
from .lookup import open_dataset, open_for_evaluation

__all__ = [
    "DataCheck",
    "Dataset",
    "Split",
    "Understanding",
    "check_data",
    "find_images",
    "open_dataset",
    "open_for_evaluation",
]
