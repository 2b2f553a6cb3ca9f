"""The rate of `predict -o FOLDER`: images a second from tar shards of photos, as one process with all cores.

    python benchmarks/bench_shards.py [--model efficientnet-lite0] [--photos 2000] [--precision auto]

Prints the rate, what a billion images take at it, and the growth of memory from the first shard to the last.
"""

from __future__ import annotations

import argparse
import io
import tarfile
import tempfile
import time
from pathlib import Path

import psutil
from bench_runtime import write_photos
from harness import machine

from compoundnet.base.machine import cores
from compoundnet.base.progress import ignore
from compoundnet.data.image_shards import find_shards
from compoundnet.runtime import Predictor, predict_shards

BILLION = 1e9
SECONDS_OF_A_DAY = 86_400
# Photos that are different; shards repeat them.
DIFFERENT = 100


def write_shards(folder: Path, photos: int, shards: int) -> int:
    """Write photos of 500 x 375 px as tar files; return the bytes of an image."""
    files = write_photos(folder / "photos", min(photos, DIFFERENT))
    contents = [file.read_bytes() for file in files]
    (folder / "shards").mkdir()
    for shard in range(shards):
        with tarfile.open(folder / "shards" / f"{shard:03d}.tar", "w") as tar:
            for image in range(photos // shards):
                content = contents[(shard + image) % len(contents)]
                member = tarfile.TarInfo(f"{image:06d}.jpg")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return sum(map(len, contents)) // len(contents)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--shards", type=int, default=10)
    parser.add_argument("--backend")
    parser.add_argument("--precision")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = write_shards(folder, given.photos, given.shards)
        shards = find_shards([folder / "shards"])
        photos = list((folder / "photos").iterdir())
        predictor = Predictor(
            given.model, backend=given.backend, precision=given.precision, check_on=photos, device=given.device, top=1
        )
        if predictor.session.choice is not None:
            print(predictor.session.choice.text())
        memory = psutil.Process().memory_info
        predict_shards(predictor, shards[:1], folder / "warm")
        before, busy, start = memory().rss, time.process_time(), time.perf_counter()
        done = predict_shards(predictor, shards, folder / "out", progress=ignore)
        seconds = time.perf_counter() - start
        used = (time.process_time() - busy) / seconds
        growth = memory().rss - before
        parts = sum(part.stat().st_size for part in (folder / "out").glob("*.parquet"))
    rate = done.images / seconds
    print(f"\n{given.model} on {predictor.session.backend} in {predictor.session.precision} ({machine()})")
    print(f"  {done.images:,} photos of 500 x 375 px, {size / 1e3:.0f} kB each, in {given.shards} tar files")
    print(f"  {rate:,.1f} images/s on {cores()} cores, of which {used:.2f} were used: {rate / used:,.1f} a core")
    print(f"  a billion images: {BILLION / (rate / used) / 3600:,.0f} core hours;", end=" ")
    print(f"{BILLION / rate / SECONDS_OF_A_DAY:,.1f} days on one such machine")
    print(f"  input {size * BILLION / 1e12:,.0f} TB, output {parts / done.images * BILLION / 1e9:,.0f} GB in Parquet")
    print(f"  memory grew by {growth / 1e6:.0f} MB from the second shard to the last")


if __name__ == "__main__":
    main()
