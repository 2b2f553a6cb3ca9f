"""A reduced form of the study, which runs in a minute: few images of plain colours, a narrow baseline, one epoch."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from PIL import Image

from compoundnet.arch import Network
from compoundnet.train.recipe import Recipe

_CLASSES, _TRAINING, _TEST = 10, 16, 4


def write_images(folder: Path) -> None:
    """Write images of 32 px with a colour for each class, as train/CLASS and test/CLASS."""
    random = np.random.default_rng(0)
    colours = random.integers(40, 216, (_CLASSES, 3))
    for split, count in (("train", _TRAINING), ("test", _TEST)):
        for label, colour in enumerate(colours):
            place = folder / split / f"class{label}"
            place.mkdir(parents=True)
            for number in range(count):
                pixels = colour + random.integers(-20, 20, (32, 32, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.png")


def reduced(baseline: Network, recipe: Recipe) -> tuple[Network, Recipe]:
    """Return a narrow form of the baseline, scaled in steps of one channel, and a recipe of one epoch."""
    stages = tuple(
        msgspec.structs.replace(
            stage, channels=stage.channels // 4 + 4, block=msgspec.structs.replace(stage.block, expansion=1)
        )
        for stage in baseline.stages
    )
    narrow = baseline.replace(
        stages=stages,
        stem=msgspec.structs.replace(baseline.stem, channels=8, stride=2),
        head=msgspec.structs.replace(baseline.head, channels=16),
        rules=msgspec.structs.replace(baseline.rules, channel_divisor=1),
    )
    return narrow, recipe.replace(epochs=1, batch=32, minival=40, warmup_epochs=0, lr=0.1)
