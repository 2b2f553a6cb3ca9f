"""Images a second of `train` on JPEG files against its two parts alone, the loader and the step: which waits for which.

The files are made on the spot, 500 x 400 px of smooth random colours. Each is linked several times, so that an epoch
is longer than what the workers decode ahead; all are in the memory of the system.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import training_step
from contest import Case, Gate
from PIL import Image
from section import device, parse

import compoundnet as cn
from compoundnet.base.machine import cores
from compoundnet.data import Split, open_dataset
from compoundnet.data.loader import loader, most_workers
from compoundnet.data.training_transform import TrainingTransform
from compoundnet.train import Hardware, Recipe, Watcher, find_recipe, launch, plan_task, train


class Clock(Watcher):
    """Notes the moment of each step."""

    def __init__(self) -> None:
        self.moments: list[float] = []

    def stepped(self, step: int, loss: float) -> None:  # noqa: ARG002  # as in the base
        self.moments.append(time.perf_counter())


def write_images(folder: Path, numbers: Sequence[int], size: tuple[int, int], links: int) -> None:
    """Random smooth images of two classes, each under `links` names."""
    for number in numbers:
        coarse = np.random.default_rng(number).integers(0, 256, (12, 15, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), np.int16)
        noise = np.random.default_rng(-number - 1 & 0xFFFF).integers(-6, 7, smooth.shape)
        encoded = io.BytesIO()
        Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8)).save(encoded, "JPEG", quality=90)
        first = folder / f"class{number % 2}" / f"{number:05d}-0.jpg"
        first.write_bytes(encoded.getvalue())
        for link in range(1, links):
            os.link(first, first.with_name(f"{number:05d}-{link}.jpg"))


def loader_rate(split: Split, size: int, batch: int, workers: int, batches: int, warm: int) -> float:
    """Images a second of the loader alone, after the first batches."""
    iterator = iter(
        loader(split, TrainingTransform(size), batch=batch, workers=workers, pin_memory=device().type == "cuda")
    )
    for _ in range(warm):
        next(iterator)
    start = time.perf_counter()
    for _ in range(batches):
        next(iterator)
    return batches * batch / (time.perf_counter() - start)


def train_rate(data: Path, recipe: Recipe, network: cn.Network, workers: int, warm: int) -> float:
    """Images a second of a training between its first steps and its last."""
    clock = Clock()
    dataset = open_dataset(data, test_fraction=0)
    task = plan_task(recipe, dataset, network=network)
    fabric = launch(Hardware(devices=1, accelerator="gpu" if device().type == "cuda" else "cpu"), recipe)
    with tempfile.TemporaryDirectory() as output:
        train(task, Path(output) / "model", fabric=fabric, workers=workers, watcher=clock)
    moments = clock.moments[warm - 1 :]
    return (len(moments) - 1) * recipe.batch / (moments[-1] - moments[0])


def main() -> None:
    section = parse(__doc__)
    smoke, workers = section.smoke, 1 if section.smoke else most_workers()
    size, batch, count, links = (64, 4, 24, 2) if smoke else (224, 256, 4000, 10)
    steps, warm = (6, 2) if smoke else (70, 20)
    b0 = cn.network("efficientnet-b0")
    network = cn.scale(b0, width=0.1, depth=0.1, resolution=size) if smoke else b0
    recipe = find_recipe("imagenet").replace(
        epochs=0, steps=steps, batch=batch, augment=None, minival=0, select="last", save_minutes=1000,
        precision="fp32" if smoke else "bf16",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary)
        for label in range(2):
            (data / f"class{label}").mkdir()
        start = time.perf_counter()
        with ProcessPoolExecutor(cores()) as pool:
            shares = [range(share, count, cores()) for share in range(cores())]
            jobs = [
                pool.submit(write_images, data, share, (100, 80) if smoke else (500, 400), links) for share in shares
            ]
            for job in jobs:
                job.result()
        section.row(images=count, files=count * links, written_s=round(time.perf_counter() - start, 1))
        section.turn()
        split = open_dataset(data, test_fraction=0).split("train")
        alone = loader_rate(split, size, batch, workers, batches=4 if smoke else 60, warm=2 if smoke else 30)
        section.row(measured="loader alone", workers=workers, images_per_second=round(alone, 1))
        case = Case("tiny" if smoke else "b0", "compoundnet", "eager", batch, size)

        prepared = training_step.prepare(case, Gate(multiprocessing, 64))
        step = batch / min(prepared.measure()["ms"] for _ in range(3)) * 1e3
        section.row(measured="step alone, images on the card", images_per_second=round(step, 1))
        del prepared
        whole = train_rate(data, recipe, network, workers, warm)
        section.row(
            measured="train", images_per_second=round(whole, 1), of_the_step=round(whole / step, 3),
            of_the_loader=round(whole / alone, 3), waits_for="the loader" if alone < step else "the step",
        )  # fmt: skip


if __name__ == "__main__":
    main()
