"""The input of a fine-tuned network: resolution, evaluation crop and fit, each with several seeds.

resolution  Lite0 at several resolutions on small images; decides `_ENLARGED` and `_SMALLEST` of train/image_input.py
crop        the networks of every training, evaluated with several crops and sizes; decides `crop = "auto"`. And what
            a choice by held-out images would gain over it: images are drawn from those of the test in their stead
fit         two classes of 120 x 640 px noise that differ at one end only, the same lying, and both shapes mixed

Data, all real or generated on the spot: CIFAR-10 (32 px; --cifar, a folder or zip of train/CLASS/*.jpg and
test/CLASS/*.jpg), scikit-learn's digits (8 px), LFW's faces (25 px) from scikit-image, and the digits on patches of its
photographs (200 px), framed tightly or with a margin around them. Sets that cannot be had are named and left out.

Trainings run as parallel processes, the first seed of all of them first; none is started after --seconds, so that a
result is written in any case: input.md and input.json in --out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from harness import machine
from numpy.typing import NDArray
from PIL import Image

START = "efficientnet-lite0"
# Of the data sets; 128 and 224 px for the others.
RESOLUTIONS = {"cifar10": (64, 96, 128, 224), "digits": (64, 96, 128, 224), "faces": (96, 128, 224)}
PHOTOS = ("brick", "grass", "gravel", "chelsea", "coffee", "ihc", "hubble_deep_field", "motorcycle_left")
SIZES = (1.0, 1.25)  # of an evaluation, relative to the resolution of training
HELD_OUT = (20, 50, 100, 200)  # images by which a crop would be chosen
DRAWS = 1000
Pixels = NDArray[np.uint8]


class Training(NamedTuple):
    """One fine-tuning: the section, the folder of the data, the settings of the recipe, and the seed."""

    section: str
    data: str
    settings: tuple[str, ...]
    seed: int


class Score(NamedTuple):
    """Top-1 accuracy on the test images with one evaluation crop and size."""

    crop: float
    size: int
    top1: float


class Choice(NamedTuple):
    """The crop chosen by the accuracy on `images` held-out images, with what it gains on the others over the default.

    Attributes:
        images: How many.
        other: The fraction of the draws that choose another crop than the default.
        gain: Mean gain in top-1.
    """

    images: int
    other: float
    gain: float


# Data: each function yields (split/class/name, image).


def digits(limit: int) -> Iterable[tuple[str, Image.Image]]:
    from sklearn.datasets import load_digits

    found = load_digits()
    images = (found.images * 15.9375).round().astype(np.uint8)
    taken: dict[tuple[str, int], int] = {}
    for number, (pixels, label) in enumerate(zip(images, found.target, strict=True)):
        split = "train" if number % 2 else "test"
        place = taken.setdefault((split, int(label)), 0)
        if place < limit:
            taken[split, int(label)] += 1
            yield f"{split}/{label}/{place:03}.png", Image.fromarray(pixels)


def faces(limit: int) -> Iterable[tuple[str, Image.Image]]:
    """The 100 faces and 100 other patches of LFW that come with scikit-image."""
    images = np.load(_photo("lfw_subset.npy"))
    for number, pixels in enumerate((images * 255).round().astype(np.uint8)):
        place = number % 100 // 2
        if place < limit:
            kind = "face" if number < 100 else "other"
            yield f"{'train' if number % 2 else 'test'}/{kind}/{place:03}.png", Image.fromarray(pixels)


def on_photographs(side: int, limit: int) -> Iterable[tuple[str, Image.Image]]:
    """Digits of `side` px about the middle of patches of photographs of 200 px.

    A digit of 96 px has a margin, as an object on a photograph has; one of 190 px is framed tightly.
    """
    photos = [Image.open(_matching(name)).convert("RGB") for name in PHOTOS]
    for name, digit in digits(limit):
        random = np.random.default_rng(list(name.encode()))
        photo = photos[int(random.integers(len(photos)))]
        # Training has the left halves of the photographs, the test the right ones.
        x = int(random.integers(0, photo.width // 2 - 200)) + (photo.width // 2 if name.startswith("test") else 0)
        y = int(random.integers(0, photo.height - 200))
        ground = photo.crop((x, y, x + 200, y + 200))
        ink = digit.resize((side, side), Image.Resampling.BICUBIC)
        colour = tuple(int(value) for value in random.integers(160, 256, 3))
        spread = min(10, (200 - side) // 2)
        left, top = ((200 - side) // 2 + int(value) for value in random.integers(-spread, spread + 1, 2))
        ground.paste(Image.new("RGB", ink.size, colour), (left, top), ink)
        yield name, ground


def cifar(path: Path, limit: int) -> Iterable[tuple[str, bytes]]:
    names: dict[str, Callable[[], bytes]]
    if path.is_dir():
        names = {file.relative_to(path).as_posix(): file.read_bytes for file in path.glob("*/*/*.jpg")}
    else:
        archive = zipfile.ZipFile(path)
        names = {name: partial(archive.read, name) for name in archive.namelist() if name.endswith(".jpg")}
    taken: dict[str, int] = {}
    for name in sorted(names):
        group = name.rpartition("/")[0]
        if taken.setdefault(group, 0) < limit:
            taken[group] += 1
            yield name, names[name]()


def noise(shape: str, limit: int) -> Iterable[tuple[str, Image.Image]]:
    """120 x 640 px: the top 80 px are noise of the lower half of the values, or of the upper half; the rest of all.

    `lying` is the same on its side, and `mixed` has both.
    """
    for split, first in (("train", 0), ("test", 1000)):
        for kind, low in (("dark", 0), ("light", 128)):
            for place in range(limit):
                random = np.random.default_rng(first + 2 * place + (low > 0))
                pixels = random.integers(0, 256, (640, 120, 3), dtype=np.uint8)
                pixels[:80] = random.integers(low, low + 128, (80, 120, 3), dtype=np.uint8)
                if shape == "lying" or (shape == "mixed" and place % 2):
                    pixels = np.ascontiguousarray(pixels.transpose(1, 0, 2))
                yield f"{split}/{kind}/{place:03}.png", Image.fromarray(pixels)


def _photo(name: str) -> Path:
    import skimage

    return Path(skimage.__file__).parent / "data" / name


def _matching(name: str) -> Path:
    return next(path for suffix in (".png", ".jpg") if (path := _photo(name + suffix)).exists())


def write(folder: Path, images: Iterable[tuple[str, Image.Image | bytes]]) -> Path:
    for name, image in images:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(image, bytes):
            path.write_bytes(image)
        else:
            image.save(path)
    return folder


# One process.


def train(training: Training, device: str) -> dict[str, Any]:
    """Fine-tune, and evaluate at several crops and sizes."""
    import torch

    import compoundnet as cn
    from compoundnet.train import counts

    torch.set_num_threads(1)
    began = time.perf_counter()
    recipe = cn.train.override(cn.train.find_recipe("finetune"), [f"seed={training.seed}", *training.settings])
    dataset = cn.data.open_dataset(training.data)
    task = cn.train.plan_task(recipe, dataset, start=cn.models.open_folder(START))
    fabric = cn.train.launch(cn.train.Hardware(accelerator="gpu" if device == "cuda" else "cpu"), task.recipe)
    with tempfile.TemporaryDirectory() as scratch:
        outcome = cn.train.train(task, Path(scratch) / "model", fabric=fabric, workers=0)
        taken = time.perf_counter() - began
        net = cn.models.load(outcome.model).to(fabric.device)
    assert outcome.result is not None and task.test is not None
    how, rule = task.preprocess, cn.models.Preprocess.authors(task.preprocess.size).crop
    default = cn.train.plan_task(cn.train.find_recipe("finetune"), dataset, start=task.start).preprocess
    scores = [Score(how.crop, how.size, outcome.result.top1)]
    choices: list[Choice] = []
    if training.section == "resolution" and (how.fit, how.size) == (default.fit, default.size):
        crops = sorted({rule, 1.0}, key=lambda crop: crop != default.crop)
        right = [_right(net, task.test, msgspec.structs.replace(how, crop=crop), fabric) for crop in crops]
        choices = [_choice(right, images) for images in HELD_OUT if 2 * images <= len(task.test)]
    if training.section == "resolution":
        for size in sorted({round(how.size * factor) for factor in SIZES}):
            for crop in (rule, 1.0):
                if (crop, size) != (how.crop, how.size):
                    other = msgspec.structs.replace(how, crop=crop, size=size)
                    top1 = counts.count(net, task.test, other, fabric, batch=100).top1
                    scores.append(Score(crop, size, top1))
    return {
        "section": training.section,
        "data": Path(training.data).name,
        "settings": list(training.settings),
        "seed": training.seed,
        "fit": how.fit,
        "size": how.size,
        "default": {"fit": default.fit, "size": default.size, "crop": default.crop},
        "images": len(task.train),
        "top1": outcome.result.top1,
        "seconds": taken,
        "scores": [score._asdict() for score in scores],
        "choices": [choice._asdict() for choice in choices],
    }


def _right(net: Any, split: Any, how: Any, fabric: Any) -> NDArray[np.bool_]:
    """bool[images]: whether each is classified correctly."""
    from compoundnet.train import counts

    found = counts.predict_readable(
        counts.on_device(net, fabric), lambda logits, labels, _: (logits.argmax(1) == labels)[:, None], split, how,
        fabric, columns=1, batch=100,
    )  # fmt: skip
    return found.values[:, 0] > 0


def _choice(right: list[NDArray[np.bool_]], images: int) -> Choice:
    """Draw held-out images, take the crop (the default first) that is best on them, and judge it by the others."""
    random, gains, others = np.random.default_rng(0), [], 0
    for _ in range(DRAWS):
        held = np.zeros(len(right[0]), np.bool_)
        held[random.choice(len(held), images, replace=False)] = True
        chosen = int(np.argmax([one[held].sum() for one in right]))
        gains.append(right[chosen][~held].mean() - right[0][~held].mean())
        others += chosen != 0
    return Choice(images, others / DRAWS, float(np.mean(gains)))


# All of them.


def plan(sets: dict[str, Path], seeds: range, smoke: bool, resolutions: list[int] | None = None) -> list[Training]:
    """The trainings, the first seed of all of them first; the longest of a seed first."""
    short = ("epochs=1", "batch=4", "frozen_epochs=0", "warmup_epochs=0") if smoke else ()
    found = []
    for seed in seeds:
        of_seed = []
        for name, folder in sets.items():
            if name in ("tall", "lying", "mixed"):
                settings = [(f"fit={fit}",) for fit in ("crop", "pad", "squash")]
                of_seed += [Training("fit", str(folder), (*one, *short), seed) for one in settings]
            else:
                for size in resolutions or RESOLUTIONS.get(name, (128, 224)):
                    settings = [(f"resolution={size}", "fit=crop", "crop=1.0", *short)]
                    of_seed += [Training("resolution", str(folder), one, seed) for one in settings]
        found += sorted(of_seed, key=_work, reverse=True)
    return found


def _work(training: Training) -> int:
    size = next((int(one.partition("=")[2]) for one in training.settings if one.startswith("resolution=")), 160)
    return size**2 * (4 if training.section == "resolution" else 1)


def _mean(values: list[float]) -> str:
    spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{spread}"


def report(rows: list[dict[str, Any]], about: list[str]) -> str:
    """The result as Markdown."""
    lines = ["# Input of a fine-tuned network", "", *(f"- {line}" for line in about), ""]
    of_size = [row for row in rows if row["section"] == "resolution"]
    names = list(dict.fromkeys(row["data"] for row in of_size))
    chosen = {row["data"]: row["default"] for row in rows}
    lines += [
        "## Resolution",
        "",
        "Test top-1 in percent, evaluated with crop 1; seconds of a training; * the default.",
        "",
    ]
    lines += ["| data | resolution | seeds | top-1 | seconds |", "|---|---|---|---|---|"]
    for name in names:
        for size in sorted({row["size"] for row in of_size if row["data"] == name}):
            here = [row for row in of_size if (row["data"], row["size"]) == (name, size)]
            seconds = statistics.mean(row["seconds"] for row in here)
            star = " *" if chosen[name]["size"] == size else ""
            top1 = _mean([row["top1"] for row in here])
            lines.append(f"| {name} | {size}{star} | {len(here)} | {top1} | {seconds:.1f} |")
    lines += [
        "",
        "## Evaluation crop and size",
        "",
        "The same networks. Differences are to crop 1 at the same size as in training.",
        "",
    ]
    lines += ["| data | trained at | evaluated at | crop | top-1 | difference |", "|---|---|---|---|---|---|"]
    for name in names:
        for size in sorted({row["size"] for row in of_size if row["data"] == name}):
            here = [row for row in of_size if (row["data"], row["size"]) == (name, size)]
            for key in sorted({(score["size"], score["crop"]) for row in here for score in row["scores"]}):
                pairs = [
                    (score["top1"], row["top1"])
                    for row in here
                    for score in row["scores"]
                    if (score["size"], score["crop"]) == key
                ]
                top1, gain = _mean([one for one, _ in pairs]), _mean([one - base for one, base in pairs])
                lines.append(f"| {name} | {size} | {key[0]} | {key[1]:.3f} | {top1} | {gain} |")
    lines += [
        "",
        "## Crop by held-out images",
        "",
        "How often so many images would choose another crop than the default, and what that gains in top-1 on others.",
        "",
        "| data | trained at | held-out images | another crop | gain |",
        "|---|---|---|---|---|",
    ]
    for name in names:
        here = [row for row in of_size if row["data"] == name and row["choices"]]
        for images in sorted({choice["images"] for row in here for choice in row["choices"]}):
            found = [choice for row in here for choice in row["choices"] if choice["images"] == images]
            other, gain = _mean([one["other"] for one in found]), _mean([one["gain"] for one in found])
            lines.append(f"| {name} | {here[0]['size']} | {images} | {other} % | {gain} |")
    lines += ["", "## Fit", "", "| data | fit | seeds | top-1 |", "|---|---|---|---|"]
    of_fit = [row for row in rows if row["section"] == "fit"]
    for name, fit in sorted({(row["data"], row["fit"]) for row in of_fit}):
        here = [row for row in of_fit if (row["data"], row["fit"]) == (name, fit)]
        star = " *" if chosen[name]["fit"] == fit else ""
        lines.append(f"| {name} | {fit}{star} | {len(here)} | {_mean([row['top1'] for row in here])} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the result")
    parser.add_argument("--cifar", type=Path, help="folder or zip of CIFAR-10")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0, help="to add seeds to an earlier result")
    parser.add_argument("--resolutions", type=int, nargs="*", help="these only, of the trainings at several")
    parser.add_argument("--processes", type=int, default=max(1, (os.cpu_count() or 1) - 2))
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no training after this time")
    parser.add_argument("--only", nargs="*", help="names of data sets")
    parser.add_argument("--smoke", action="store_true", help="a few images, one step: whether it runs")
    given = parser.parse_args()
    began = time.perf_counter()
    given.out.mkdir(parents=True, exist_ok=True)
    limit, noises = (4, 4) if given.smoke else (100, 40)
    makers: dict[str, Callable[[], Iterable[tuple[str, Any]]]] = {
        "digits": lambda: digits(min(limit, 50)),
        "faces": lambda: faces(limit),
        "framed": lambda: on_photographs(190, min(limit, 40)),
        "placed": lambda: on_photographs(96, min(limit, 40)),
        **{shape: partial(noise, shape, noises) for shape in ("tall", "lying", "mixed")},
    }
    if given.cifar is not None:
        makers = {"cifar10": lambda: cifar(given.cifar, limit), **makers}
    about = [machine(), f"{START}, recipe finetune, {given.seeds} seeds, device {given.device}"]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        sets = {}
        for name, make in makers.items():
            if given.only is None or name in given.only:
                try:
                    sets[name] = write(Path(scratch) / name, make())
                except (ImportError, OSError, StopIteration) as error:
                    about.append(f"left out: {name} ({error})")
        seeds = range(given.first_seed, given.first_seed + given.seeds)
        trainings = plan(sets, seeds, given.smoke, given.resolutions)
        with ProcessPoolExecutor(given.processes, mp_context=get_context("spawn")) as pool:
            waiting = {pool.submit(train, one, given.device): one for one in trainings}
            for done in as_completed(waiting):
                if time.perf_counter() - began > given.seconds:
                    cut = sum(future.cancel() for future in waiting if not future.cancelled())
                    if cut:
                        about.append(f"{cut} of {len(trainings)} trainings were not started, for want of time")
                if done.cancelled():
                    continue
                try:
                    rows.append(done.result())
                except Exception:
                    about.append(f"failed: {waiting[done]}: {traceback.format_exc().splitlines()[-1]}")
                else:
                    _say(rows[-1], time.perf_counter() - began)
                _write(given.out, rows, about)
    about.append(f"{time.perf_counter() - began:.0f} seconds in all, {given.processes} processes")
    _write(given.out, rows, about)
    print((given.out / "input.md").read_text())


def _say(row: dict[str, Any], at: float) -> None:
    what = f"{row['data']:8} {row['settings'][0]:15} seed {row['seed']}"
    print(f"{at:5.0f} s  {what}: {row['top1']:.1%} in {row['seconds']:.1f} s", flush=True)


def _write(out: Path, rows: list[dict[str, Any]], about: list[str]) -> None:
    (out / "input.json").write_text(json.dumps({"about": about, "trainings": rows}, indent=1))
    (out / "input.md").write_text(report(rows, about))


if __name__ == "__main__":
    main()
