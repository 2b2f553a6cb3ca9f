"""A small model with and without a teacher: Lite0 at 64 px, taught by Lite2 at 260 px, on 1,000 images of CIFAR-10.

The teacher is Lite2, fine-tuned once on the same training images with the recipe `finetune`. Students are fine-tuned
with several seeds and judged on CIFAR-10's own test images.

    python benchmarks/bench_distillation.py --cifar cifar10.zip --device cuda --out distillation

`--cifar` is a folder or a zip file with train/CLASS/*.jpg and test/CLASS/*.jpg; `--teacher FOLDER` takes a trained
teacher. The students are independent; `--processes` of them train at a time. `--smoke` tries the script in a minute on
a CPU: its numbers mean nothing.
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

CLASSES = 10
WAYS = {
    "without": None,
    "same view": "distillation.view=same",
    "whole view": "distillation.view=whole",
    "whole view and features": "distillation.view=whole distillation.features=20",
}


class Job(NamedTuple):
    """One fine-tuning, in the form passed to its process.

    Attributes:
        data: The folder of the images.
        output: The model folder.
        start: The model that is fine-tuned.
        settings: Of the recipe.
        teacher: The model folder of the teacher; None without one.
        device: cuda or cpu.
    """

    data: Path
    output: Path
    start: str
    settings: tuple[str, ...]
    teacher: Path | None
    device: str


def trained(job: Job) -> tuple[float, int, float]:
    """Fine-tune once; return the accuracy on the test images, how many there are, and seconds."""
    import torch

    from compoundnet.data import open_dataset
    from compoundnet.models import open_folder
    from compoundnet.train import Hardware, find_recipe, launch, override, plan_task, train

    torch.set_num_threads(1)
    teacher = open_folder(job.teacher) if job.teacher is not None else None
    task = plan_task(
        override(find_recipe("finetune"), job.settings), open_dataset(job.data), start=open_folder(job.start),
        teacher=teacher,
    )  # fmt: skip
    fabric = launch(Hardware(devices=1, accelerator="gpu" if job.device == "cuda" else "cpu"), task.recipe)
    began = time.perf_counter()
    result = train(task, job.output, fabric=fabric, loggers=[]).result
    assert result is not None
    seconds = time.perf_counter() - began
    print(f"{job.output.name}: {result.top1:.2%}, {seconds:.0f} s", flush=True)
    return result.top1, result.count, seconds


def report(found: list[dict[str, Any]], taught: str, given: argparse.Namespace, machine: str) -> str:
    """Return the Markdown of the results."""
    lines = [
        "# Distillation",
        "",
        f"Lite0 at {given.resolution} px, recipe `finetune`, {given.images} training images a class of CIFAR-10,"
        f" {found[0]['tested']:,} test images, {given.seeds} seeds; {taught}; {machine}.",
        "",
        "| teacher | top-1 | standard deviation | each seed | seconds a run |",
        "|---|---|---|---|---|",
    ]
    for way in dict.fromkeys(row["way"] for row in found):
        rows = [row for row in found if row["way"] == way]
        cells = score_cells([row["top1"] for row in rows], [row["seconds"] for row in rows])
        lines.append(f"| {way} | {cells} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, help="a trained teacher, in place of Lite2 fine-tuned here")
    parser.add_argument("--keep-teacher", type=Path, help="folder for the teacher that is trained")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cpu")
    parser.add_argument("--out", type=Path, default=Path("distillation"), help="folder of distillation.md and .json")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=100, help="training images of each class")
    parser.add_argument("--test-images", type=int, default=1000, help="of each class")
    parser.add_argument("--resolution", type=int, default=64, help="of the student")
    parser.add_argument("--teacher-resolution", type=int, default=260)
    parser.add_argument("--only", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--way", action="append", default=[], metavar="SETTINGS", help="another way to be taught")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="change the students' recipe")
    parser.add_argument("--processes", type=int, default=0, help="0: all students at once, at most one a core")
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    students, teacher_settings = [f"resolution={given.resolution}"], [f"resolution={given.teacher_resolution}"]
    if given.smoke:
        given.images, given.seeds, given.test_images = 3, 1, 3
        students += ["epochs=2"]
        teacher_settings += ["epochs=2"]
    students += given.set
    ways = {name: WAYS[name] for name in given.only} | {settings: settings for settings in given.way}
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes below: each computes in one thread
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        data = unpack(given.cifar, scratch / "data", [given.images] * CLASSES, given.test_images)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            teacher, taught = given.teacher, f"taught by {given.teacher}"
            if teacher is None:
                teacher = given.keep_teacher or scratch / "teacher"
                job = Job(data, teacher, "efficientnet-lite2", tuple(teacher_settings), None, given.device)
                top1, _, seconds = pool.submit(trained, job).result()
                taught = f"taught by Lite2 at {given.teacher_resolution} px, {top1:.2%} ({seconds:.0f} s)"
        rows: list[dict[str, Any]] = [{"way": way, "seed": seed} for seed in range(given.seeds) for way in ways]
        jobs = [
            Job(
                data, scratch / f"{row['way']} {row['seed']}", "efficientnet-lite0",
                (f"seed={row['seed']}", *students, *(ways[row["way"]] or "").split()),
                teacher if ways[row["way"]] is not None else None, given.device,
            )
            for row in rows
        ]  # fmt: skip
        processes = given.processes or min(len(jobs), os.cpu_count() or 1)
        with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
            for row, (top1, tested, seconds) in zip(rows, pool.map(trained, jobs), strict=True):
                row.update(top1=top1, tested=tested, seconds=seconds)
    rows.sort(key=lambda row: (list(ways).index(row["way"]), row["seed"]))
    machine = machine_of(given.device)
    document = {"machine": machine, "teacher": taught, "runs": rows}
    write_results(given.out, "distillation", report(rows, taught, given, machine), document)


if __name__ == "__main__":
    main()
