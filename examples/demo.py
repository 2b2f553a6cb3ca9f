"""What `make demo` runs: plan a network for a budget, classify real photos, hold the paper against what is measured."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import compoundnet as cn
from compoundnet import paper
from compoundnet.arch.units import format_count

PHOTOS = ("chelsea.png", "coffee.png", "rocket.jpg")


def main() -> None:
    baseline = cn.network("efficientnet-b0")
    plan = cn.plan(baseline, max_macs=1.8e9)
    print("The largest EfficientNet within 1.8 billion multiply-adds, by compound scaling of B0:")
    print(f"  phi {plan.phi:.2f}: depth x{plan.depth:.2f}, width x{plan.width:.2f}, {plan.resolution} px")
    print(f"  {format_count(plan.params)} parameters, {format_count(plan.macs)} multiply-adds\n")

    predictor = cn.Predictor("efficientnet-lite0", top=3)
    print("Three photos, classified by EfficientNet-Lite0 (ImageNet weights, 4.7M parameters):")
    for name in PHOTOS:
        with resources.as_file(resources.files("skimage.data").joinpath(name)) as path:
            found = predictor(path).predictions
        guesses = ", ".join(f"{guess.label} {guess.probability:.0%}" for guess in found)
        print(f"  {name:12s} {guesses}")
    write_report(Path("report.html"))


def write_report(path: Path) -> None:
    """All but Table 4, whose networks take a minute to export and time."""
    made = paper.make_report(quick=True, without=["table4"])
    cn.arch.write_whole(path, made.html)
    counts = made.facts().tables
    print(f"\nThe paper's tables and figures beside what was measured here: {path}")
    print(f"  {counts['agrees']} printed figures agree, {counts['differs']} differ, {counts['needs data']} need data")
    print("  compoundnet reproduce all --quick adds the latencies of Table 4")


if __name__ == "__main__":
    main()
