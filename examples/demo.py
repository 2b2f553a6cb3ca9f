"""What `make demo` runs: plan a network for a budget, classify images, write the report that compares the paper with
what is measured here, and find the best classifier of other images within a budget."""

from __future__ import annotations

import tempfile
from importlib import resources
from pathlib import Path

import compoundnet as cn
from compoundnet import base, paper
from compoundnet.base import format_count
from compoundnet.fit import Limits, fit

IMAGES = ("chelsea.png", "coffee.png", "rocket.jpg")
# The budget of the last part, milliseconds an image, and its time in seconds.
MOST_MILLISECONDS, SECONDS = 20.0, 45.0


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
    write_report(Path("report.html"))
    find_classifier(Path("digits.html"))


def write_report(path: Path) -> None:
    """Write the report without Table 4, whose networks take a minute to export and time."""
    made = paper.make_report(quick=True, without=["table4"])
    base.write_whole(path, made.html)
    counts = made.facts().tables
    print(f"\nThe paper's tables and figures beside what was measured here: {path}")
    print(f"  {counts['agrees']} printed figures agree, {counts['differs']} differ, {counts['needs data']} need data")
    print("  compoundnet reproduce all --quick adds the latencies of Table 4")


def find_classifier(path: Path) -> None:
    """Find the best classifier of scikit-learn's 1,797 digits within a budget, from Lite0, which knows ImageNet."""
    print(f"\nThe best classifier of handwritten digits within {MOST_MILLISECONDS:g} ms an image, found here:")
    with tempfile.TemporaryDirectory() as folder:
        output, limits = Path(folder) / "digits", Limits(max_latency=MOST_MILLISECONDS)
        found = fit(
            "digits", output, limits, models=["efficientnet-lite0"], seconds=SECONDS,
            notify=lambda text: print(f"  {text}"),
        )  # fmt: skip
        base.write_whole(path, (Path(folder) / "digits.fit" / "report.html").read_bytes())
    assert found.answer is not None
    print(f"  the answer: {found.answer.text()}")
    print(f"  what was tried, and the worst mistakes: {path}")


if __name__ == "__main__":
    main()
