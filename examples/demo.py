"""What `make demo` runs: plan a network for a budget, then classify real photos with pretrained weights."""

from __future__ import annotations

from importlib import resources

import compoundnet as cn
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


if __name__ == "__main__":
    main()
