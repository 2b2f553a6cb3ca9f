"""Fine-tuning on classes of unequal size: `balance` none, sampler and loss, against a balanced linear probe.

Lite0 at 128 px on CIFAR-10's classes with 300, 200, 140, 100, 70, 50, 35, 25, 15 and 10 images, recipe `finetune`,
judged on CIFAR-10's own test images, of which there are equally many of each class: top-1 is the mean per class. The
probe is logistic regression with class weights on the frozen features. `--weights` adds what `balance = "loss"` was
chosen over: cross-entropy with the inverse class frequencies as weights.

    python benchmarks/bench_balance.py --cifar cifar10.zip --device cuda --out balance

`--cifar` is a folder or a zip file with train/CLASS/*.jpg and test/CLASS/*.jpg. The runs are independent; `--processes`
of them train at a time. `--smoke` tries the script in a minute on a CPU: its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from cifar import machine_of, score_cells, unpack

COUNTS = (300, 200, 140, 100, 70, 50, 35, 25, 15, 10)
SMOKE_COUNTS = (24, 16, 12, 8, 6, 5, 4, 4, 3, 3)
WAYS = ("none", "sampler", "loss")
TEST_IMAGES = 1000  # of each class


class Job(NamedTuple):
    """One training, in the form passed to its process."""

    data: Path
    scratch: Path
    balance: str
    seed: int
    resolution: int
    device: str
    settings: tuple[str, ...]


def trained(job: Job) -> dict[str, Any]:
    """Fine-tune once; return the accuracies on the test images."""
    import torch

    from compoundnet.data import open_dataset
    from compoundnet.models import open_folder
    from compoundnet.train import Hardware, find_recipe, launch, override, plan_task, train

    torch.set_num_threads(1)
    dataset, weighted = open_dataset(job.data), job.balance == "weights"
    settings = [f"seed={job.seed}", f"resolution={job.resolution}", *job.settings]
    settings += ["balance=none", "label_smoothing=0"] if weighted else [f"balance={job.balance}"]
    loss = None
    if weighted:
        counts = torch.from_numpy(dataset.split("train").counts())
        loss = torch.nn.CrossEntropyLoss(
            counts.sum().float() / (len(counts) * counts), label_smoothing=find_recipe("finetune").label_smoothing
        )
    task = plan_task(
        override(find_recipe("finetune"), settings), dataset, start=open_folder("efficientnet-lite0"), loss=loss
    )
    hardware = Hardware(devices=1, accelerator="gpu" if job.device == "cuda" else "cpu")
    began = time.perf_counter()
    result = train(
        task, job.scratch / f"{job.balance}-{job.seed}", fabric=launch(hardware, task.recipe), loggers=[]
    ).result
    assert result is not None and result.mean_per_class is not None
    return {
        "balance": job.balance,
        "seed": job.seed,
        "top1": result.top1,
        "mean_per_class": result.mean_per_class,
        "test_images": result.count,
        "seconds": time.perf_counter() - began,
    }


def probe(data: Path, resolution: int, device: str) -> float:
    """Top-1 of logistic regression with balanced class weights on the features of the pretrained network."""
    import msgspec
    import numpy as np
    import torch
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    import compoundnet as cn
    from compoundnet.data import open_dataset
    from compoundnet.data.loader import loader
    from compoundnet.models import open_folder

    dataset, model = open_dataset(data), open_folder("efficientnet-lite0")
    net = cn.load(model, num_classes=0).to(device)
    how = msgspec.structs.replace(model.preprocess, size=resolution, interpolation="bilinear")
    features = {}
    with torch.inference_mode():
        for name in ("train", "test"):
            batches = loader(dataset.split(name), how, batch=100)
            features[name] = np.concatenate([net(images.to(device)).cpu().numpy() for images, *_ in batches])
    scaler = StandardScaler().fit(features["train"])
    fitted = LogisticRegression(max_iter=2000, C=0.01, class_weight="balanced").fit(
        scaler.transform(features["train"]), dataset.split("train").labels
    )
    return float(fitted.score(scaler.transform(features["test"]), dataset.split("test").labels))


def report(
    found: list[dict[str, Any]], ways: tuple[str, ...], probed: float, given: argparse.Namespace, machine: str
) -> str:
    """Return the Markdown of the results."""
    lines = [
        "# Classes of unequal size",
        "",
        f"Lite0, recipe `finetune` at {given.resolution} px, CIFAR-10 with {', '.join(map(str, given.counts))} training"
        f" images a class, {found[0]['test_images']:,} test images, {given.seeds} seeds; {machine}.",
        "",
        "| `balance` | top-1 (= mean per class) | standard deviation | each seed | seconds a run |",
        "|---|---|---|---|---|",
    ]
    for way in ways:
        rows = [row for row in found if row["balance"] == way]
        cells = score_cells([row["mean_per_class"] for row in rows], [row["seconds"] for row in rows])
        lines.append(f"| {way} | {cells} |")
    lines += [f"| linear probe with class weights | {probed:.2%} | - | - | - |", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", type=Path, required=True)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cpu")
    parser.add_argument("--out", type=Path, default=Path("balance"), help="folder of balance.md and balance.json")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--test-images", type=int, default=TEST_IMAGES, help="of each class")
    parser.add_argument("--processes", type=int, default=0, help="0: all runs at once, at most one a core")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="change the recipe")
    parser.add_argument("--weights", action="store_true", help="also with weighted cross-entropy")
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    given.counts = COUNTS
    if given.smoke:
        given.counts, given.seeds, given.test_images, given.resolution = SMOKE_COUNTS, 1, 10, 64
        given.set = ["epochs=2", *given.set]
    ways = (*WAYS, "weights") if given.weights else WAYS
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes below: each computes in one thread
    processes = given.processes or min(len(ways) * given.seeds + 1, os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        data = unpack(given.cifar, scratch / "data", given.counts, given.test_images)
        jobs = [
            Job(data, scratch, way, seed, given.resolution, given.device, tuple(given.set))
            for seed in range(given.seeds)
            for way in ways
        ]
        with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
            probing = pool.submit(probe, data, given.resolution, given.device)
            found = list(pool.map(trained, jobs))
            probed = probing.result()
    found.sort(key=lambda row: (ways.index(row["balance"]), row["seed"]))
    machine = machine_of(given.device)
    text = report(found, ways, probed, given, machine)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "balance.md").write_text(text)
    (given.out / "balance.json").write_text(
        json.dumps(
            {
                "machine": machine,
                "resolution": given.resolution,
                "training_images": list(given.counts),
                "runs": found,
                "linear_probe": probed,
            },
            indent=2,
        )
    )
    print(text)


if __name__ == "__main__":
    main()
