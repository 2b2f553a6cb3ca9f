"""The default session against other libraries, one thread; predict against timm's loader and eager model; cold start.

    python benchmarks/bench_runtime.py [--networks efficientnet-b0,...] [--runs 20] [--photos 200]

Prints ratios, each from one run in interleaved rounds.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
from harness import machine
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import compoundnet as cn
from compoundnet.models import Preprocess, write_folder
from compoundnet.runtime.timing.benchmark import Benchmark, benchmark

PEERS = ("timm", "timm tf_", "torchvision", "efficientnet_pytorch")
ROUNDS = 3


def sessions(names: list[str], runs: int) -> None:
    for name in names:
        done = benchmark([name], threads=1, batch=1, runs=runs, with_peers=True)
        for reason in done.left_out:
            print(f"  left out: {reason}")
        print(f"\n{name}, batch 1, one thread, median of {runs} rounds ({machine()})")
        for found in sorted(done.measurements, key=lambda found: found.latency.median):
            latency = found.latency
            print(
                f"  {found.library:20s} {found.backend:20s} {latency.median:8.2f} ms"
                f"  (fastest {latency.fastest:.2f}, p95 {latency.p95:.2f})"
            )
        ratios(done)


def ratios(done: Benchmark) -> None:
    """The times of others, each in its better order of memory, as multiples of ours."""
    medians = {(found.library, found.backend): found.latency.median for found in done.measurements}
    ours = medians["compoundnet", "onnxruntime"]
    eager = {
        library: min(value for (of, way), value in medians.items() if of == library and way.startswith("eager"))
        for library in PEERS
        if (library, "eager") in medians
    }
    plain = {library: medians[library, "eager"] for library in eager}
    exports = {library: medians[library, "onnxruntime"] for library in PEERS if (library, "onnxruntime") in medians}
    if eager:
        print(f"  best eager peer / ours            {min(eager.values()) / ours:5.2f}  (at least 1.8)")
    for library, least in (("torchvision", 2.0), ("efficientnet_pytorch", 2.5)):
        if library in plain:  # not of every network: Lite is in timm alone
            print(f"  {f'{library} eager / ours':33s} {plain[library] / ours:5.2f}  (at least {least})")
    for library, value in exports.items():
        print(f"  {library} exported / ours: {value / ours:.2f}  (at least 1.0)")


class Photos(Dataset[torch.Tensor]):
    """Files through timm's own evaluation transform."""

    def __init__(self, files: list[Path], transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self.files, self.transform = files, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(Image.open(self.files[index]).convert("RGB"))


def predicting(folder: Path, photos: int) -> None:
    network = cn.network("efficientnet-b0")
    torch.manual_seed(0)
    preprocess = Preprocess.authors(network.resolution)
    state = cn.build(network).state_dict()
    write_folder(folder / "model", network, state, preprocess, readme="Random weights, for timing.")
    files = write_photos(folder / "photos", photos)

    predictor = cn.runtime.Predictor(folder / "model", threads=1)
    net = timm.create_model("efficientnet_b0").eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(net))

    def ours() -> None:
        assert sum(1 for _ in predictor.many(files)) == photos

    @torch.inference_mode()
    def theirs() -> None:
        seen = 0
        for batch in DataLoader(Photos(files, transform), batch_size=8, num_workers=1):
            seen += len(net(batch).softmax(1).topk(5).indices)
        assert seen == photos

    torch.set_num_threads(1)
    taken: dict[str, list[float]] = {"ours": [], "timm": []}
    for _ in range(ROUNDS):
        for name, run in (("ours", ours), ("timm", theirs)):
            start = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in taken.items()}
    print(f"\npredict on {photos} photos, B0, one thread and one reader: {medians['ours']:.2f} s, timm's loader and")
    print(f"  eager model {medians['timm']:.2f} s: {medians['timm'] / medians['ours']:.2f} (at least 1.5)")
    cold_start(folder / "model", files[0])


def cold_start(model: Path, photo: Path) -> None:
    """`predict` on one photo as a process of its own; the session is in the cache by now."""
    code = (
        "import sys; from compoundnet.cli.main import main; sys.argv[0] = 'compoundnet'\n"
        "try: main()\nfinally: print('torch' in sys.modules, file=sys.stderr)"
    )
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code, "predict", str(model), str(photo)], capture_output=True, text=True, check=True
        )
        taken.append(time.perf_counter() - start)
    print(f"\ncold start of predict on one photo: {statistics.median(taken):.2f} s (at most 1.5),")
    print(f"  torch imported: {done.stderr.split()[-1]}")


def write_photos(folder: Path, count: int) -> list[Path]:
    """JPEGs of 500 x 375 px, smooth with a little noise, as photos are."""
    folder.mkdir()
    numbers = np.random.default_rng(0)
    files = []
    for index in range(count):
        coarse = Image.fromarray(numbers.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((500, 375))
        pixels = np.asarray(coarse, dtype=np.int16) + numbers.integers(-12, 13, (375, 500, 3), dtype=np.int16)
        files.append(folder / f"{index:04d}.jpg")
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(files[-1], quality=90)
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="efficientnet-b0,efficientnet-b1,efficientnet-b4")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--photos", type=int, default=200)
    given = parser.parse_args()
    sessions([name for name in given.networks.split(",") if name], given.runs)
    with tempfile.TemporaryDirectory() as folder:
        predicting(Path(folder), given.photos)


if __name__ == "__main__":
    main()
