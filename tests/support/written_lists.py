"""Lists of six photos in two class folders, as people write them."""

from __future__ import annotations

from pathlib import Path

from sample_images import write_classes

from compoundnet.data.dataset import Dataset
from compoundnet.data.lookup import open_dataset

# Path and class of each.
CELLS = [(f"photos/{name}/{number}.jpg", name) for name in ("café", "cat") for number in range(3)]


def written(folder: Path, text: str, name: str = "list.csv", encoding: str = "utf-8") -> Dataset:
    write_classes(folder / "photos", 3, ("café", "cat"))
    (folder / name).write_bytes(text.encode(encoding))
    return open_dataset(folder / name, test_fraction=0)
