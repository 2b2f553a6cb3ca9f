"""What training reaches, and what the engine costs over a bare loop.

digits      EfficientNet-B0 from scratch on scikit-learn's digits, recipe `quick`: test top-1 and minutes
finetune    Lite0 on 1,000 CIFAR-10 images at 128 px, recipe `finetune`, against logistic regression on its frozen
            features, on 2,000 test images. Needs --cifar: a folder or zip of train/CLASS/*.jpg and test/CLASS/*.jpg
overhead    a run of the engine, with its logs and the checkpoint at its end, against the same steps written out, on
            the same batches, in alternation
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import torch
from harness import machine
from torch import nn
from torch.nn import functional as F

import compoundnet as cn
from compoundnet.data import Dataset, Split, open_dataset
from compoundnet.data.loader import loader, normalise
from compoundnet.data.sources import Arrays
from compoundnet.models import open_folder
from compoundnet.train import Hardware, Watcher, find_recipe, launch, override, plan_task, train
from compoundnet.train.checkpoints import Checkpoints
from compoundnet.train.engine import Engine
from compoundnet.train.logs import Logs
from compoundnet.train.optimizer import make_optimizer, set_learning_rate
from compoundnet.train.schedule import learning_rate

IMAGES = {"train": 100, "test": 200}


def digits(seeds: int) -> None:
    """Spread over seeds; the seed decides weights, order and augmentation."""
    scores, minutes = [], []
    for seed in range(seeds):
        recipe = override(find_recipe("quick"), [f"seed={seed}"])
        task = plan_task(recipe, open_dataset("digits"), network=cn.network("efficientnet-b0"))
        score, taken = _run(task)
        scores.append(score)
        minutes.append(taken)
    _report("digits, B0 from scratch", scores, minutes)


def finetune(seeds: int, cifar: Path) -> None:
    """Fine-tuning against what logistic regression makes of the same network's features."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = _images(cifar, Path(scratch))
        scores, minutes = [], []
        for seed in range(seeds):
            recipe = override(find_recipe("finetune"), [f"seed={seed}", "resolution=128"])
            score, taken = _run(plan_task(recipe, open_dataset(folder), start=open_folder("efficientnet-lite0")))
            scores.append(score)
            minutes.append(taken)
        _report("CIFAR-10, 1,000 images, Lite0 fine-tuned", scores, minutes)
        print(f"  logistic regression on its frozen features: {_frozen(folder):.2%}")


def overhead(steps: int = 16) -> None:
    """B0 at 224 px, batch 16: seconds a step of the engine and of a bare loop, in rounds."""
    pixels = np.random.default_rng(0).integers(0, 256, (16 * steps, 224, 224, 3), dtype=np.uint8)
    classes = tuple(f"class {number}" for number in range(10))
    split = Split("train", classes, np.arange(len(pixels), dtype=np.int64) % 10, Arrays("noise", pixels))
    recipe = override(
        find_recipe("imagenet"),
        ["batch=16", "precision=fp32", "minival=0", "select=last", "augment=none", f"steps={steps}", "lr=1e-4"],
    )
    task = plan_task(recipe, Dataset("noise", {"train": split}), network=cn.network("efficientnet-b0"))
    ratios = []
    for number in range(7):
        taken: dict[str, float] = {}
        # Each goes first in turn: the process's first steps are slower, whoever makes them. Round 0 warms up.
        for who in ("engine", "bare loop") if number % 2 else ("bare loop", "engine"):
            taken[who] = (_engine_run(task) if who == "engine" else _bare_run(task)) / steps
        if number:
            ratios.append(taken["engine"] / taken["bare loop"])
            print(f"  engine {taken['engine'] * 1e3:.1f} ms, bare loop {taken['bare loop'] * 1e3:.1f} ms a step")
    print(
        f"engine overhead: {statistics.median(ratios) - 1:+.1%} (median of {len(ratios)} rounds of {steps} steps, each"
        f" with a checkpoint; {machine()})"
    )


class _Clock(Watcher):
    def started(self, step: int, steps: int, batch: int) -> None:  # noqa: ARG002  # the watcher's names
        self.began = time.perf_counter()


def _engine_run(task: cn.train.Task) -> float:
    """Seconds from before the first step until the log is closed and the checkpoint is on disk."""
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(
            task, launch(Hardware(), task.recipe), Checkpoints(Path(folder), 1), Logs(Path(folder)), watcher=clock
        )
        engine.run()
        return time.perf_counter() - clock.began


def _bare_run(task: cn.train.Task) -> float:
    """The same work: loader, network, loss, optimiser, average."""
    recipe, net = task.recipe, task.make_net().to(memory_format=torch.channels_last).train()
    tensors = [tensor for tensor in net.state_dict().values() if tensor.is_floating_point()]
    average = [tensor.clone() for tensor in tensors]
    optimizer = make_optimizer(net, recipe)
    batches = loader(task.train, task.transform, batch=recipe.batch)
    began = time.perf_counter()
    for step, (images, labels, *_) in enumerate(batches):
        set_learning_rate(optimizer, learning_rate(recipe, step, recipe.steps, recipe.steps))
        inputs = normalise(images, task.preprocess).contiguous(memory_format=torch.channels_last)
        loss = F.cross_entropy(net(inputs), labels, label_smoothing=recipe.label_smoothing)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(average, tensors, 0.1)
    return time.perf_counter() - began


def _run(task: cn.train.Task) -> tuple[float, float]:
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result = train(task, Path(folder) / "model").result
    assert result is not None
    return result.top1, (time.perf_counter() - start) / 60


def _report(what: str, scores: list[float], minutes: list[float]) -> None:
    spread = f" +- {statistics.stdev(scores):.2%}" if len(scores) > 1 else ""
    print(
        f"{what}: test top-1 {statistics.mean(scores):.2%}{spread} ({', '.join(f'{score:.2%}' for score in scores)}),"
        f" {statistics.mean(minutes):.1f} minutes a run ({torch.get_num_threads()} threads, {machine()})"
    )


def _images(cifar: Path, scratch: Path) -> Path:
    """The first images of each class by name, as class folders."""
    names: dict[str, Callable[[], bytes]]
    if cifar.is_dir():
        names = {path.relative_to(cifar).as_posix(): path.read_bytes for path in cifar.glob("*/*/*.jpg")}
    else:
        archive = zipfile.ZipFile(cifar)
        names = {name: partial(archive.read, name) for name in archive.namelist() if name.endswith(".jpg")}
    classes: dict[tuple[str, str], list[str]] = {}
    for name in sorted(names):
        split, label, _ = name.split("/")
        classes.setdefault((split, label), []).append(name)
    for (split, _), members in classes.items():
        for name in members[: IMAGES[split]]:
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            (scratch / name).write_bytes(names[name]())
    return scratch


@torch.inference_mode()
def _frozen(folder: Path) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    dataset, model = open_dataset(folder), open_folder("efficientnet-lite0")
    net: nn.Module = cn.load(model, num_classes=0)
    how = msgspec.structs.replace(model.preprocess, size=128, interpolation="bilinear")
    features = {
        name: np.concatenate([net(images).numpy() for images, *_ in loader(split, how, batch=50)])
        for name, split in dataset.splits.items()
    }
    scaler = StandardScaler().fit(features["train"])
    fitted = LogisticRegression(max_iter=2000, C=0.01).fit(
        scaler.transform(features["train"]), dataset.split("train").labels
    )
    return float(fitted.score(scaler.transform(features["test"]), dataset.split("test").labels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["digits", "finetune", "overhead"])
    parser.add_argument("--cifar", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.only in (None, "overhead"):
        overhead()
    if given.only in (None, "digits"):
        digits(given.seeds)
    if given.cifar is not None and given.only in (None, "finetune"):
        finetune(given.seeds, given.cifar)


if __name__ == "__main__":
    main()
