"""A network, images and a recipe that train in about a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compoundnet.arch import Head, MBConv, Network, Stage, Stem
from compoundnet.data import Dataset, Split
from compoundnet.data.sources import Arrays
from compoundnet.train import Recipe, find_recipe, override

CLASSES = ("dark", "grey", "light")


def small_network(num_classes: int = 3) -> Network:
    return Network(
        name="small",
        resolution=32,
        stem=Stem(channels=8),
        stages=(Stage(MBConv(expansion=1), 8), Stage(MBConv(expansion=4), 16, repeats=2, stride=2)),
        head=Head(channels=32),
        dropout=0.1,
        survival=0.8,
        num_classes=num_classes,
    )


def small_dataset(train: int = 60, test: int = 30) -> Dataset:
    """Noise around three levels of grey."""
    return Dataset("greys", {"train": _split("train", train, 1), "test": _split("test", test, 2)})


def _split(name: str, count: int, seed: int) -> Split:
    random = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % len(CLASSES)
    pixels = random.normal(60 + 70 * labels[:, None, None, None], 40, (count, 24, 24, 3)).clip(0, 255)
    return Split(name, CLASSES, labels, Arrays(name, pixels.astype(np.uint8)))


def small_recipe(*settings: str) -> Recipe:
    """Three epochs of six steps, with all that has state: momentum, average, early stopping, held-out images."""
    return override(
        find_recipe("imagenet"),
        ["epochs=3", "batch=8", "lr=0.4", "warmup_epochs=1", "minival=12", "patience=3", "precision=fp32",
         "save_minutes=1000", *settings],
    )  # fmt: skip


def class_folders(root: Path, counts: dict[str, int]) -> Path:
    """PNG files of flat colours, `root/CLASS/N.png`."""
    from PIL import Image

    random = np.random.default_rng(0)
    for number, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for index in range(count):
            pixels = random.normal(60 + 70 * number, 30, (24, 24, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return root
