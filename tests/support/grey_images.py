"""Images and models on which a fit takes seconds: noise around three levels of grey, and two tiny networks."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from small_model import write_small_model

from compoundnet.data import Dataset, Split
from compoundnet.data.sources import Arrays

CLASSES = ("dark", "grey", "light")


def images(train: int = 90, test: int = 30, seed: int = 1) -> Dataset:
    """Training and test images of 24 px."""

    def split(name: str, count: int, number: int) -> Split:
        random = np.random.default_rng(number)
        labels = np.arange(count, dtype=np.int64) % 3
        pixels = random.normal(60 + 70 * labels[:, None, None, None], 40, (count, 24, 24, 3)).clip(0, 255)
        return Split(name, CLASSES, labels, Arrays(name, pixels.astype(np.uint8)))

    return Dataset("greys", {"train": split("train", train, seed), "test": split("test", test, seed + 1)})


def write_models(folder: Path) -> list[str]:
    """Write a model for 32 px, and the same for 64 px, which is a candidate at 32, 40, 48 and 56 px too."""
    write_small_model(folder / "small")
    large = write_small_model(folder / "large")
    preprocess = msgspec.structs.replace(large.preprocess, size=64)
    preprocess.save(folder / "large" / "preprocess.toml")
    return [str(folder / "small"), str(folder / "large")]
