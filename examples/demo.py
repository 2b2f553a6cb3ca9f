"""What `make demo` runs: plan a network for a budget, classify images, fine-tune on others, and write the report that
compares the paper with what is measured here."""

from __future__ import annotations

import tempfile
import time
from importlib import resources
from pathlib import Path

import compoundnet as cn
from compoundnet import base, paper
from compoundnet.base import format_count
from compoundnet.data import open_dataset
from compoundnet.models import open_folder
from compoundnet.train import Hardware, find_recipe, launch, override, plan_task, train
from compoundnet.train.counts import count

IMAGES = ("chelsea.png", "coffee.png", "rocket.jpg")
# Handwritten digits are far from ImageNet's images, so all layers learn at one rate. Two epochs take a minute.
DIGITS = ["resolution=96", "epochs=2", "frozen_epochs=0.25", "warmup_epochs=0.5", "layer_decay=1", "ema_decay=0.98",
          "area=[0.8,1]", "flip=false", "minival=0"]  # fmt: skip


def main() -> None:
    baseline = cn.network("efficientnet-b0")
    plan = cn.plan(baseline, max_macs=1.8e9)
    print("The largest EfficientNet within 1.8 billion multiply-adds, by compound scaling of B0:")
    print(f"  phi {plan.phi:.2f}: depth x{plan.depth:.2f}, width x{plan.width:.2f}, {plan.resolution} px")
    print(f"  {format_count(plan.params)} parameters, {format_count(plan.macs)} multiply-adds\n")

    predictor = cn.Predictor("efficientnet-lite0", top=3)
    print("Three images, classified by EfficientNet-Lite0 (ImageNet weights, 4.7M parameters):")
    for name in IMAGES:
        with resources.as_file(resources.files("skimage.data").joinpath(name)) as path:
            found = predictor(path).predictions
        guesses = ", ".join(f"{guess.label} {guess.probability:.0%}" for guess in found)
        print(f"  {name:12s} {guesses}")
    fine_tune()
    write_report(Path("report.html"))


def fine_tune() -> None:
    """Fine-tune Lite0, which was trained on ImageNet, on scikit-learn's 1,797 digits."""
    start, dataset = open_folder("efficientnet-lite0"), open_dataset("digits")
    task = plan_task(override(find_recipe("finetune"), DIGITS), dataset, start=start)
    assert task.test is not None
    print(f"\nEfficientNet-Lite0 fine-tuned on {len(task.train):,} handwritten digits, {task.preprocess.size} px:")
    before = count(task.make_net(), task.test, task.preprocess, launch(Hardware(), task.recipe))
    print(f"  before: {before.top1:.1%} of {before.count} test images (a new, untrained classifier)")
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result = train(task, Path(folder) / "digits").result
    assert result is not None
    print(f"  after:  {result.top1:.1%}, in {time.perf_counter() - began:.0f} s")


def write_report(path: Path) -> None:
    """Write the report without Table 4, whose networks take a minute to export and time."""
    made = paper.make_report(quick=True, without=["table4"])
    base.write_whole(path, made.html)
    counts = made.facts().tables
    print(f"\nThe paper's tables and figures beside what was measured here: {path}")
    print(f"  {counts['agrees']} printed figures agree, {counts['differs']} differ, {counts['needs data']} need data")
    print("  compoundnet reproduce all --quick adds the latencies of Table 4")


if __name__ == "__main__":
    main()
