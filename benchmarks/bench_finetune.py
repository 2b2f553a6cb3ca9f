"""Fine-tuning Lite0 on few images of CIFAR-10: the recipe `finetune`, changes of it, and a recipe of tutorials.

Each way is trained on the first images of each class, with several seeds, and judged on CIFAR-10's own test images.

    python benchmarks/bench_finetune.py --cifar cifar10.zip --images 10 100 --device cuda --out finetune
    python benchmarks/bench_finetune.py --cifar cifar10.zip --images 10 --way "lr=3e-3" --way "epochs=20 mixup=0.2"

`--way` adds a way: settings of the recipe, separated by spaces. `tutorial` is what most tutorials do: a new classifier
with random weights, AdamW at 1e-3 for all layers, batch norm in training mode, no warm-up, no moving average.
`--smoke` tries the script in a minute on a CPU: its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from cifar import machine_of, score_cells, unpack, write_results

WAYS = {
    "finetune": "",
    "tutorial": "frozen_epochs=0 layer_decay=1 warmup_epochs=0 ema_decay=0 norm=train label_smoothing=0 clip_norm=0"
    " schedule.kind=constant",
}
CLASSES = 10


class Job(NamedTuple):
    """One training, in the form passed to its process."""

    data: Path
    scratch: Path
    images: int
    way: str
    settings: tuple[str, ...]
    seed: int
    device: str


def trained(job: Job) -> dict[str, Any]:
    """Fine-tune once; return the accuracy on the test images."""
    import torch

    from compoundnet.data import open_dataset
    from compoundnet.models import open_folder
    from compoundnet.train import Hardware, find_recipe, launch, override, plan_task, train

    torch.set_num_threads(1)
    recipe = override(find_recipe("finetune"), [f"seed={job.seed}", *job.settings])
    task = plan_task(recipe, open_dataset(job.data), start=open_folder("efficientnet-lite0"))
    fabric = launch(Hardware(devices=1, accelerator="gpu" if job.device == "cuda" else "cpu"), task.recipe)
    began = time.perf_counter()
    result = train(task, job.scratch / f"{job.images}-{job.way}-{job.seed}", fabric=fabric, loggers=[]).result
    assert result is not None
    row = {"images": job.images, "way": job.way, "seed": job.seed, "top1": result.top1, "tested": result.count}
    row["seconds"] = time.perf_counter() - began
    print(f"{job.images} a class, {job.way}, seed {job.seed}: {result.top1:.2%}, {row['seconds']:.0f} s", flush=True)
    return row


def report(found: list[dict[str, Any]], given: argparse.Namespace, machine: str) -> str:
    """Return the Markdown of the results."""
    lines = [
        "# Fine-tuning on few images",
        "",
        f"Lite0 at {given.resolution} px on the first images of each of CIFAR-10's classes, {found[0]['tested']:,} test"
        f" images, {given.seeds} seeds; {machine}.",
        "",
        "| images a class | way | top-1 | standard deviation | each seed | seconds a run |",
        "|---|---|---|---|---|---|",
    ]
    for images, way in dict.fromkeys((row["images"], row["way"]) for row in found):
        rows = [row for row in found if (row["images"], row["way"]) == (images, way)]
        cells = score_cells([row["top1"] for row in rows], [row["seconds"] for row in rows])
        lines.append(f"| {images} | {way} | {cells} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", type=Path, required=True)
    parser.add_argument("--images", type=int, nargs="+", default=[10, 100], help="training images of each class")
    parser.add_argument("--only", nargs="+", choices=list(WAYS), default=list(WAYS), help="the ways to begin with")
    parser.add_argument("--way", action="append", default=[], metavar="SETTINGS", help="another way")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cpu")
    parser.add_argument("--out", type=Path, default=Path("finetune"), help="folder of finetune.md and finetune.json")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--test-images", type=int, default=1000, help="of each class")
    parser.add_argument("--processes", type=int, default=0, help="0: all runs at once, at most one a core")
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    if given.smoke:
        given.images, given.seeds, given.test_images, given.resolution = [2, 3], 1, 5, 64
    ways = {name: WAYS[name] for name in given.only} | {settings: settings for settings in given.way}
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes below: each computes in one thread
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        jobs = [
            Job(
                unpack(given.cifar, scratch / f"data-{images}", [images] * CLASSES, given.test_images),
                scratch, images, way.replace("/", " "), (f"resolution={given.resolution}", *settings.split()), seed,
                given.device,
            )
            for images in given.images
            for seed in range(given.seeds)
            for way, settings in ways.items()
        ]  # fmt: skip
        processes = given.processes or min(len(jobs), os.cpu_count() or 1)
        with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
            found = list(pool.map(trained, jobs))
    found.sort(key=lambda row: (given.images.index(row["images"]), list(ways).index(row["way"]), row["seed"]))
    machine = machine_of(given.device)
    write_results(given.out, "finetune", report(found, given, machine), {"machine": machine, "runs": found})


if __name__ == "__main__":
    main()
