"""`data check` on many small JPEG files: names, sizes, damage and exact copies, without and with near copies.

Every image is decoded. The goal for 100,000 files on 2 cores is 20 s without near copies.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from harness import machine
from PIL import Image

from compoundnet.data.check import check_data
from compoundnet.data.lookup import open_dataset

SIDE = 48  # pixels


def write_images(folder: Path, count: int) -> None:
    """Smooth random images in 10 classes of train/ and test/."""
    random = np.random.default_rng(0)
    fields = [
        np.asarray(
            Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize(
                (2 * SIDE, 2 * SIDE), Image.Resampling.BICUBIC
            )
        )
        for _ in range(100)
    ]
    for split in ("train", "test"):
        for label in range(10):
            (folder / split / f"class {label}").mkdir(parents=True)
    for number in range(count):
        left, top = random.integers(0, SIDE, 2)
        pixels = fields[random.integers(len(fields))][top : top + SIDE, left : left + SIDE]
        split = "test" if number % 7 == 0 else "train"
        Image.fromarray(pixels).save(folder / split / f"class {number % 10}" / f"{number:06d}.jpg", quality=85)


def processor_seconds() -> float:
    """Seconds of processor time of this process and its children."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    count = parser.parse_args().images
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        write_images(Path(name), count)
        for near in (False, True):
            wall, processor = time.monotonic(), processor_seconds()
            check = check_data(open_dataset(name), near=near)
            assert check.trains
            copies = sum(finding.count for finding in check.findings if "copies" in finding.kind)
            print(
                f"{count:,} images{' with near copies' * near}: {time.monotonic() - wall:.1f} s,"
                f" {processor_seconds() - processor:.1f} s of processor time, {copies:,} copies"
            )


if __name__ == "__main__":
    main()
