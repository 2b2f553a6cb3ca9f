"""Inherited weights against the same network from scratch, in the same time, at 1M and 0.5M parameters.

    python benchmarks/bench_inheritance.py --cifar cifar10.zip [--device cuda] [--seeds 3] [--seconds 120]

EfficientNet-Lite0 with ten classes, narrowed until it fits, on the first 100 training images of each of CIFAR-10's
classes, judged on `--test` test images of each. Three trainings of each size: from scratch, inherited from the
pretrained Lite0, and inherited with distillation (Hinton et al. 2015) from a Lite0 that was fine-tuned first, for the
same time again. All take the same loop (AdamW, one cycle, flips and shifts; norms estimated at its end) and the same
time: of the processor on a CPU, where other processes would count otherwise, of the clock on a GPU. `--cifar` is a
folder or a zip file with train/CLASS/*.jpg and test/CLASS/*.jpg. `--smoke` tries the script: its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import torch
from cifar import machine_of, unpack
from torch import Tensor
from torch.nn import functional as F

import compoundnet as cn
from compoundnet import arch
from compoundnet.data import open_dataset
from compoundnet.data.loader import loader
from compoundnet.models import estimate_norms, inherit, open_folder
from compoundnet.nn import ConvNet

SIZES = (1_000_000, 500_000)
WAYS = ("scratch", "inherited", "inherited, distilled")
TRAIN_IMAGES = 100  # of each class
BATCH, RATE, DECAY = 32, 2e-3, 0.02
TEMPERATURE = 2.0
LITE0 = "efficientnet-lite0"


def images_of(folder: Path, resolution: int) -> dict[str, tuple[Tensor, Tensor]]:
    """The images of each split, float[N, 3, resolution, resolution], and their labels."""
    dataset = open_dataset(folder)
    how = msgspec.structs.replace(open_folder(LITE0).preprocess, size=resolution, crop=1.0, interpolation="bilinear")
    found = {}
    for split in ("train", "test"):
        batches = [(images, labels) for images, labels, *_ in loader(dataset.split(split), how, batch=100)]
        found[split] = torch.cat([images for images, _ in batches]), torch.cat([labels for _, labels in batches])
    return found


def narrowed(limit: int, resolution: int) -> arch.Network:
    """Lite0 with ten classes and at most so many parameters: the width decides, the resolution would not."""
    base = arch.network(LITE0).replace(num_classes=10, resolution=resolution)
    row = arch.plan(base, max_params=limit).alternatives["width"]
    assert row is not None
    return arch.scale(base, width=row.width)


def train(
    net: ConvNet, images: Tensor, labels: Tensor, seconds: float, clock: Callable[[], float], teacher: ConvNet | None
) -> int:
    """Train for so long by the clock; return the number of steps."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY)
    start, steps, order = clock(), 0, torch.empty(0, dtype=torch.long)
    net.train()
    while (done := (clock() - start) / seconds) < 1:
        if len(order) < BATCH:
            order = torch.randperm(len(images))
        batch, order = order[:BATCH], order[BATCH:]
        seen, wanted = augmented(images[batch]), labels[batch]
        for group in optimizer.param_groups:  # up over the first tenth, then down to 0
            group["lr"] = RATE * min(done / 0.1, (1 - done) / 0.9)
        logits = net(seen)
        loss = F.cross_entropy(logits, wanted, label_smoothing=0.1)
        if teacher is not None:
            with torch.no_grad():
                soft = F.softmax(teacher(seen) / TEMPERATURE, dim=1)
            loss = 0.3 * loss + 0.7 * TEMPERATURE**2 * F.cross_entropy(logits / TEMPERATURE, soft)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
    # The average of a short training would still hold the statistics that it began with.
    estimate_norms(net.eval(), list(images))
    return steps


def augmented(images: Tensor) -> Tensor:
    """Flip half of the images, and shift the batch by up to an eighth of its side."""
    flipped = torch.where(torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5, images.flip(3), images)
    most = images.shape[-1] // 8
    down, right = (int(value) for value in torch.randint(-most, most + 1, (2,)))
    return flipped.roll((down, right), (2, 3))


@torch.inference_mode()
def accuracy(net: ConvNet, images: Tensor, labels: Tensor) -> float:
    right = sum(
        int((net(part).argmax(1) == wanted).sum())
        for part, wanted in zip(images.split(100), labels.split(100), strict=True)
    )
    return right / len(labels)


def run(given: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Train every network with every seed; a row each."""
    device = torch.device(given.device)
    clock = time.perf_counter if given.device == "cuda" else time.process_time
    splits = {name: (a.to(device), b.to(device)) for name, (a, b) in images_of(folder, given.resolution).items()}
    images, labels = splits["train"]
    rows = []
    for seed in range(given.seeds):
        torch.manual_seed(seed)
        teacher = cn.load(LITE0, num_classes=10).to(device)
        train(teacher, images, labels, given.seconds, clock, None)
        rows.append({"seed": seed, "way": "Lite0 itself", "accuracy": accuracy(teacher, *splits["test"])})
        for limit in SIZES:
            network = narrowed(limit, given.resolution)
            for way in WAYS:
                torch.manual_seed(seed)
                if way == "scratch":
                    net = cn.build(network).to(device)
                else:
                    source = cn.load(LITE0, num_classes=10).to(device)
                    net = inherit(source, network, list(images[:: max(1, len(images) // 256)])).net
                steps = train(net, images, labels, given.seconds, clock, teacher if "distilled" in way else None)
                rows.append({
                    "seed": seed, "limit": limit, "way": way, "steps": steps, "width": network.scaling.width
                    if network.scaling else 1.0, "params": arch.cost(network).params,
                    "accuracy": accuracy(net, *splits["test"]),
                })  # fmt: skip
                print(json.dumps(rows[-1]), flush=True)
    return rows


def markdown(rows: list[dict[str, Any]], given: argparse.Namespace, machine: str) -> str:
    """The table: a row for each size, a column for each way."""

    def cell(way: str, limit: int | None) -> str:
        found = [row["accuracy"] for row in rows if row["way"] == way and row.get("limit") == limit]
        spread = f" ± {statistics.stdev(found):.1%}" if len(found) > 1 else ""
        return f"{statistics.mean(found):.1%}{spread}"

    lines = [
        f"Top-1 on CIFAR-10, {TRAIN_IMAGES} training images a class, {given.resolution} px, {given.seconds:g} s each,"
        f" {given.seeds} seeds (± standard deviation); {machine}. Lite0 itself: {cell('Lite0 itself', None)}.",
        "",
        "| parameters | width | " + " | ".join(WAYS) + " |",
        "|---|---|" + "---|" * len(WAYS),
    ]
    for limit in SIZES:
        row = next(row for row in rows if row.get("limit") == limit)
        cells = " | ".join(cell(way, limit) for way in WAYS)
        lines.append(f"| {row['params']:,} | {row['width']:.2f} | {cells} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", type=Path, required=True)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cpu")
    parser.add_argument("--out", type=Path, default=Path("inheritance"), help="folder of inheritance.md and .json")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=120, help="of each training")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--test", type=int, default=200, help="test images of each class")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    if given.smoke:
        given.seeds, given.seconds, given.resolution, given.test = 1, 2.0, 32, 10
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as scratch:
        counts = [20 if given.smoke else TRAIN_IMAGES] * 10
        rows = run(given, unpack(given.cifar, Path(scratch), counts, given.test))
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "inheritance.json").write_text(json.dumps(rows, indent=1) + "\n")
    text = markdown(rows, given, machine_of(given.device))
    (given.out / "inheritance.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
