"""Training batches from JPEG files of 500 x 375 pixels, 2 worker processes, against timm's and torchvision's loaders.

Every subject ends with what a training step takes: float32[64, 3, 224, 224], normalised. All crop, resize (bicubic)
and flip; the second comparison adds AutoAugment. timm's `v0` policy fails with Pillow 13, whose posterize refuses the 0
bits that it asks for; here it is given the black image that the policy's authors compute.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import timm.data
import timm.data.auto_augment
import torch
from harness import machine
from PIL import Image
from skimage import data as photos
from torchvision import datasets
from torchvision.transforms import v2

from compoundnet.data.augment import AutoAugment
from compoundnet.data.loader import loader, normalise
from compoundnet.data.lookup import open_dataset
from compoundnet.data.training_transform import TrainingTransform
from compoundnet.models import Preprocess

SIZE, BATCH, WORKERS = 224, 64, 2
HOW = Preprocess.authors(SIZE)
Epoch = Callable[[], Iterable[torch.Tensor]]


def write_photos(folder: Path, count: int) -> None:
    """Pieces of scikit-image's photographs in two classes."""
    draw = random.Random(0)
    sources = [
        Image.fromarray(picture()) for picture in (photos.chelsea, photos.coffee, photos.astronaut, photos.rocket)
    ]
    for number in range(count):
        source = sources[number % len(sources)]
        width = min(source.width, source.height * 4 / 3) * draw.uniform(0.75, 1)
        left, top = draw.uniform(0, source.width - width), draw.uniform(0, source.height - width * 3 / 4)
        piece = source.resize((500, 375), Image.Resampling.BICUBIC, box=(left, top, left + width, top + width * 3 / 4))
        target = folder / "train" / f"class{number % 2}" / f"{number:04d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        piece.save(target, quality=92)


def ours(folder: Path, augment: bool) -> Epoch:
    transform = TrainingTransform(SIZE, augment=AutoAugment() if augment else None)
    split = open_dataset(folder, test_fraction=0.01).split("train")
    batches = loader(split, transform, batch=BATCH, workers=WORKERS)
    return lambda: _normalised(batch.images for batch in batches)


def timms(folder: Path, augment: bool) -> Epoch:
    posterize = timm.data.auto_augment.NAME_TO_OP["Posterize"]

    def posterize_to_black(image: Image.Image, bits: int, **settings: Any) -> Any:
        return posterize(image, bits, **settings) if bits else Image.new("RGB", image.size)

    timm.data.auto_augment.NAME_TO_OP["Posterize"] = posterize_to_black
    batches = timm.data.create_loader(
        timm.data.ImageDataset(str(folder / "train")),
        (3, SIZE, SIZE),
        BATCH,
        is_training=True,
        interpolation="bicubic",
        color_jitter=0.0,
        auto_augment="v0" if augment else None,
        num_workers=WORKERS,
        use_prefetcher=True,  # uint8 between processes, and normalised as batches: its faster way
        device=torch.device("cpu"),
        persistent_workers=True,
        pin_memory=False,
    )
    return lambda: (images for images, _ in batches)


def torchvisions(folder: Path, augment: bool) -> Epoch:
    warnings.filterwarnings("ignore", "The image decoding and encoding", DeprecationWarning)
    steps: list[Any] = [
        v2.RandomResizedCrop(SIZE, interpolation=v2.InterpolationMode.BICUBIC, antialias=True),
        v2.RandomHorizontalFlip(),
        *([v2.AutoAugment(fill=128)] if augment else []),
    ]
    folder_set = datasets.ImageFolder(str(folder / "train"), v2.Compose(steps), loader=_decoded)
    batches = torch.utils.data.DataLoader(
        folder_set, BATCH, shuffle=True, drop_last=True, num_workers=WORKERS, persistent_workers=True
    )
    return lambda: _normalised(images for images, _ in batches)


def _normalised(batches: Iterable[torch.Tensor]) -> Iterable[torch.Tensor]:
    return (normalise(images, HOW) for images in batches)


def _decoded(path: str) -> torch.Tensor:
    from torchvision.io import ImageReadMode, decode_image

    decoded: torch.Tensor = decode_image(path, ImageReadMode.RGB)
    return decoded


def rate(epoch: Epoch) -> float:
    """Images a second."""
    start = time.perf_counter()
    count = sum(len(images) for images in epoch())
    return count / (time.perf_counter() - start)


def compare(title: str, subjects: dict[str, Epoch], rounds: int) -> None:
    """Median images a second of interleaved rounds."""
    for epoch in subjects.values():
        rate(epoch)
    rates: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, epoch in subjects.items():
            rates[name].append(rate(epoch))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print(f"\n{title} ({rounds} rounds, {WORKERS} workers, {machine()})")
    for name, median in sorted(medians.items(), key=lambda item: -item[1]):
        low, high = min(rates[name]), max(rates[name])
        print(
            f"  {name:14s} {median:7.0f} images/s  ({low:.0f} to {high:.0f})  ours is {medians['ours'] / median:.2f}x"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--photos", type=int, default=512)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        write_photos(Path(temporary), arguments.photos)
        for title, augment in (("Crop, resize, flip", False), ("The same and AutoAugment", True)):
            subjects = {"ours": ours(Path(temporary), augment), "timm": timms(Path(temporary), augment)}
            subjects["torchvision v2"] = torchvisions(Path(temporary), augment)
            compare(title, subjects, arguments.rounds)


if __name__ == "__main__":
    main()
