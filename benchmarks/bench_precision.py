"""Precisions on this processor: every backend and precision, what auto takes, and how often it predicts the same.

    python benchmarks/bench_precision.py [--networks efficientnet-b0,...] [--runs 20] [--photos FOLDER ...] [--out DIR]

One thread, batch 1, interleaved rounds. Networks with fetched weights (EfficientNet-Lite) run with them, and agreement
is measured on photos: those given, or the ones that scikit-image, scikit-learn, foolbox and alibi bring. Others have
random weights: their times count, and their precisions stay unchecked. Model folders may be named too.
Goals with AMX: auto 1.5 times as fast as the default on B4 and Lite0, 4 times on ResNet-50, the same top class on 99 %.
Everywhere: auto within 3 % of the fastest way that it may take.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from harness import machine
from numpy.typing import NDArray

from compoundnet import data
from compoundnet.base.machine import has_bfloat16, torch_threads
from compoundnet.runtime.backends.choices import Choice
from compoundnet.runtime.backends.precisions import ways_of
from compoundnet.runtime.backends.registry import BACKENDS
from compoundnet.runtime.backends.session import backends_of
from compoundnet.runtime.timing.agreement import read_probe
from compoundnet.runtime.timing.benchmark import Measurement, TimedCalls
from compoundnet.runtime.timing.choice import choose
from compoundnet.runtime.timing.rounds import setting
from compoundnet.runtime.timing.subjects import TimedSubject, subject

NETWORKS = "efficientnet-b0,efficientnet-b4,efficientnet-lite0,resnet-50"
# Photos of installed packages: sizes from 451 x 300 to 4,000 x 3,000 px.
PACKAGES = {"skimage": "data", "sklearn": "datasets/images", "foolbox": "data", "alibi": "datasets"}
DEFAULT = ("onnxruntime", "float32")


def packaged_photos() -> list[Path]:
    """The photos of installed packages, in colour and at least 200 px a side."""
    from PIL import Image

    found: list[Path] = []
    for package, folder in PACKAGES.items():
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            place = Path(spec.submodule_search_locations[0]) / folder
            found += sorted(path for kind in ("jpg", "jpeg", "png") for path in place.rglob(f"*.{kind}"))

    def is_photo(path: Path) -> bool:
        with Image.open(path) as image:
            return image.mode == "RGB" and min(image.size) >= 200

    return [path for path in found if is_photo(path)]


def torch_bfloat16(found: TimedSubject) -> Callable[[], object]:
    """A call of the network in torch's bfloat16 on the CPU, which is no way of ours, in channels_last."""
    assert found.source.module is not None
    net = found.source.module().to(torch.bfloat16).to(memory_format=torch.channels_last)
    images = torch.from_numpy(found.source.probe()).to(torch.bfloat16).contiguous(memory_format=torch.channels_last)

    def run() -> object:
        with torch_threads(1), torch.inference_mode():
            return net(images)

    return run


def measure(name: str, photos: list[Path], runs: int) -> tuple[tuple[Measurement, ...], Choice]:
    found = subject(name, trained=True)
    source = found.source
    images: Callable[[], NDArray[np.float32]] | None = None
    if source.preprocess is not None and photos:
        images = partial(read_probe, source.preprocess, photos)
    ways = ways_of(source, backends_of(source.exported))
    choice = choose(source, ways, threads=1, batch=1, images=images, tuning=source.tuning)
    calls = TimedCalls(1)
    for way in ways:
        calls.add_ours(name, found, way, 1, "cpu", given=True)
    if has_bfloat16() and source.module is not None:
        calls.add(name, found, "torch", "torch", "bfloat16", torch_bfloat16(found))
    done = calls.timed(setting(threads=1, batch=1, runs=runs))
    for reason in done.left_out:
        print(f"  left out: {reason}")
    return done.measurements, choice


def report(name: str, measured: tuple[Measurement, ...], choice: Choice) -> dict[str, Any]:
    """Print one network's times and ratios, and return the ratios."""
    ours = {(one.backend, one.precision): one.latency for one in measured if one.library == "compoundnet"}
    default, taken = ours[DEFAULT], ours[choice.backend, choice.precision]
    allowed = {(one.backend, one.precision) for one in choice.candidates if one.allowed}
    print(f"\n{name}, {measured[0].weights} weights")
    for one in sorted(measured, key=lambda one: one.latency.median):
        times = default.median / one.latency.median
        mark = "  <- auto" if one.library == "compoundnet" and one.latency is taken else ""
        print(
            f"  {one.library:12s} {one.backend:12s} {one.precision:9s} median {one.latency.median:8.2f} ms, shortest"
            f" {one.latency.fastest:8.2f} ms, {times:5.2f} times as fast as the default{mark}"
        )
    fastest = min(ours.values(), key=lambda latency: latency.median)
    ratios = {
        "default_over_auto": default.median / taken.median,
        "default_over_fastest": default.median / fastest.median,
        "auto_over_best_allowed": taken.median / min(ours[way].median for way in allowed),
        "auto_over_best_allowed_shortest": taken.fastest / min(ours[way].fastest for way in allowed),
    }
    print(f"  {choice.text()}")
    print(
        f"  auto {ratios['default_over_auto']:.2f} times as fast as the default; against the fastest that it may take"
        f" {ratios['auto_over_best_allowed']:.3f} by medians, {ratios['auto_over_best_allowed_shortest']:.3f} by the"
        " shortest calls (at most 1.03)"
    )
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=NETWORKS)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--photos", nargs="*", default=[])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    photos = list(data.find_images(given.photos)) if given.photos else packaged_photos()
    backends = ", ".join(one.name for one in BACKENDS if one.is_installed)
    print(f"{machine()}; bfloat16 {'in hardware' if has_bfloat16() else 'not in hardware'}; {backends}")
    print(f"{len(photos)} photos, one thread, batch 1, {given.runs} interleaved rounds")
    results = []
    for name in given.networks.split(","):
        measured, choice = measure(name, photos, given.runs)
        ratios = report(name, measured, choice)
        results.append({"network": name, "choice": choice, "measured": measured, "ratios": ratios})
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "precision.json").write_text(
            json.dumps({"machine": machine(), "photos": len(photos), "results": msgspec.to_builtins(results)}, indent=2)
        )


if __name__ == "__main__":
    main()
