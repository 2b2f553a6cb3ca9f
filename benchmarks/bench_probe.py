"""The probe against fine-tuning, and fine-tuning that starts from the probe.

Lite0 on CIFAR-10's first images of each class by name, judged on test images: recipe `probe` with the seconds it takes
(features included, none from the cache), recipe `finetune`, and `finetune` with classifier=probe, with and without the
epoch of the classifier alone.

    python benchmarks/bench_probe.py --cifar cifar10.zip --device cuda --out probe

`--cifar` is a folder or a zip file with train/CLASS/*.jpg and test/CLASS/*.jpg. `--smoke` tries the script in a minute
on a CPU: its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from cifar import machine_of, unpack, write_results

# Name -> recipe and its changes.
WAYS: dict[str, tuple[str, tuple[str, ...]]] = {
    "probe": ("probe", ()),
    "finetune": ("finetune", ()),
    "finetune from probe": ("finetune", ("classifier=probe",)),
    "finetune from probe, all layers at once": ("finetune", ("classifier=probe", "frozen_epochs=0")),
}


def trained(data: Path, output: Path, way: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """Train once; return the accuracy on the test images and the seconds."""
    from compoundnet.data import open_dataset
    from compoundnet.models import open_folder
    from compoundnet.train import Hardware, find_recipe, launch, override, plan_task, train

    name, changes = WAYS[way]
    length = ("epochs=2",) if given.smoke and name == "finetune" else ()
    recipe = override(find_recipe(name), [f"seed={seed}", *changes, *length])
    began = time.perf_counter()
    task = plan_task(recipe, open_dataset(data), start=open_folder("efficientnet-lite0"))
    fabric = launch(Hardware(devices=1, accelerator="gpu" if given.device == "cuda" else "cpu"), task.recipe)
    outcome = train(task, output, fabric=fabric, loggers=[])
    assert outcome.result is not None
    return {
        "way": way,
        "seed": seed,
        "top1": outcome.result.top1,
        "cross_validated": outcome.probe.accuracy if outcome.probe is not None else None,
        "seconds": time.perf_counter() - began,
    }


def report(found: list[dict[str, Any]], given: argparse.Namespace, machine: str) -> str:
    """Return the Markdown of the results."""
    lines = [
        "# Probe and fine-tuning",
        "",
        f"Lite0 on CIFAR-10's first {given.images} images a class, {10 * given.test_images:,} test images,"
        f" {given.seeds} seeds; {machine}.",
        "",
        "| | top-1 | each seed | seconds a run |",
        "|---|---|---|---|",
    ]
    for way in WAYS:
        rows = [row for row in found if row["way"] == way]
        each = ", ".join(f"{row['top1']:.2%}" for row in rows)
        seconds = statistics.mean(row["seconds"] for row in rows)
        lines.append(f"| {way} | {statistics.mean(row['top1'] for row in rows):.2%} | {each} | {seconds:.0f} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", type=Path, required=True)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cpu")
    parser.add_argument("--out", type=Path, default=Path("probe"), help="folder of probe.md and probe.json")
    parser.add_argument("--images", type=int, default=100, help="of each class")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--test-images", type=int, default=1000, help="of each class")
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    if given.smoke:
        given.images, given.seeds, given.test_images = 4, 1, 4
    found = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        data = unpack(given.cifar, scratch / "data", (given.images,) * 10, given.test_images)
        for seed in range(given.seeds):
            for number, way in enumerate(WAYS):
                os.environ["COMPOUNDNET_CACHE"] = str(scratch / f"cache-{seed}-{number}")
                found.append(trained(data, scratch / f"{seed}-{number}", way, seed, given))
                print(json.dumps(found[-1]), flush=True)
    machine = machine_of(given.device)
    write_results(given.out, "probe", report(found, given, machine), {"machine": machine, "runs": found})


if __name__ == "__main__":
    main()
