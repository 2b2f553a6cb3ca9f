"""Compound scaling against fast scaling (Dollar et al., arXiv 2103.06877) of EfficientNet-B0 at equal multiply-adds.

    python benchmarks/bench_rules.py [--device cpu|cuda] [--budgets 0.8G,1.8G,4.4G] [--rounds N] [--out FILE.json]

Prints a Markdown table: parameters, activations and times, all networks in interleaved rounds of one run. On the CPU:
inference of one image with ONNX Runtime in float32 and with torch in bfloat16, one thread. On a GPU, in bfloat16 and
channels last: inference of one image and of a batch, each a CUDA graph with norms folded, and a training step of a
batch under autocast. A time that could not be taken is a dash, with the reason on stderr. Weights are random.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from harness import machine
from torch.nn import functional as F

import compoundnet as cn
from compoundnet import arch
from compoundnet.base import parse_count
from compoundnet.runtime.timing.rounds import Latency, time_rounds

RULES = ("compound", "fast")
BATCH = 128  # large enough that the GPU, not the launching of kernels, takes the time; needs about 50 GB
Subjects = Mapping[str, arch.Network]
Prepare = Callable[[arch.Network], Callable[[], object]]


def networks(budgets: list[float]) -> tuple[list[dict[str, Any]], dict[str, arch.Network]]:
    """The largest network of each rule within each budget: a row of figures, and the network, by one name."""
    rows, found = [], {}
    for budget in budgets:
        for rule in RULES:
            plan = arch.plan(cn.network("efficientnet-b0"), max_macs=budget, rule=rule)
            cost = arch.cost(plan.network)
            name = f"{rule} {budget / 1e9:.3g}B"
            found[name] = plan.network
            rows.append({
                "name": name, "rule": rule, "budget": budget, "phi": plan.phi, "depth": plan.depth,
                "width": plan.width, "resolution": plan.resolution, "macs": cost.macs, "params": cost.params,
                "activations": cost.activations, "blocks": plan.network.blocks,
            })  # fmt: skip
    return rows, found


def times(subjects: Subjects, prepare: Prepare, rounds: int, warm_up: int = 2) -> dict[str, Latency]:
    """Prepare every network and time all in interleaved rounds; one that fails is left out, and the reason printed."""
    calls = {}
    for name, network in subjects.items():
        try:
            calls[name] = prepare(network)
            calls[name]()
        except Exception as error:  # one network that does not fit must not cost the others their rows
            calls.pop(name, None)
            print(f"{prepare.__name__}, {name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    return time_rounds(calls, runs=rounds, warm_up=warm_up) if calls else {}


def onnxruntime_one(network: arch.Network) -> Callable[[], object]:
    """One image with ONNX Runtime, float32, on one thread."""
    from compoundnet.runtime.backends.registry import find_backend
    from compoundnet.runtime.backends.session import open_session
    from compoundnet.runtime.timing.subjects import of_network

    source = of_network(network).source
    run, image = open_session(source, find_backend("onnxruntime"), 1), source.probe()
    return lambda: run(image)


def bfloat16_one(network: arch.Network) -> Callable[[], object]:
    """One image with torch in bfloat16 on the CPU."""
    return inference(network, torch.device("cpu"), 1)


def cuda_one(network: arch.Network) -> Callable[[], object]:
    """One image on the GPU, as a CUDA graph."""
    return recorded(inference(network, torch.device("cuda"), 1))


def cuda_batch(network: arch.Network) -> Callable[[], object]:
    """A batch on the GPU, as a CUDA graph."""
    return recorded(inference(network, torch.device("cuda"), BATCH))


def cuda_step(network: arch.Network) -> Callable[[], object]:
    """A training step of a batch on the GPU."""
    return finished(training_step(network, torch.device("cuda"), BATCH))


def inference(network: arch.Network, device: torch.device, batch: int) -> Callable[[], object]:
    """Norms folded, bfloat16, channels last."""
    net = built(network, device).eval().fuse().to(torch.bfloat16).to(memory_format=torch.channels_last)
    images = randn(network, device, batch).to(torch.bfloat16)

    @torch.inference_mode()
    def run() -> object:
        return net(images)

    return run


def training_step(network: arch.Network, device: torch.device, batch: int) -> Callable[[], object]:
    """Weights in float32, bfloat16 by autocast, channels last, SGD with momentum."""
    net = built(network, device).train().to(memory_format=torch.channels_last)
    images = randn(network, device, batch)
    labels = torch.arange(batch, device=device) % network.num_classes
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-5, momentum=0.9, foreach=True)

    def step() -> object:
        with torch.autocast(device.type, torch.bfloat16):
            loss = F.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step


def built(network: arch.Network, device: torch.device) -> Any:
    with device:  # the weights are drawn where they are needed
        return cn.build(network).to(device)


def randn(network: arch.Network, device: torch.device, batch: int) -> torch.Tensor:
    size = network.resolution
    return torch.randn(batch, 3, size, size, device=device).to(memory_format=torch.channels_last)


def recorded(run: Callable[[], object]) -> Callable[[], object]:
    """The call as one CUDA graph, so that launching the kernels takes no time."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()

    def replay() -> object:
        graph.replay()
        return run  # its weights and images, which the graph reads, must live as long as the graph

    return finished(replay)


def finished(run: Callable[[], object]) -> Callable[[], object]:
    """The call and its end on the GPU."""

    def whole() -> None:
        run()
        torch.cuda.synchronize()

    return whole


MEASUREMENTS: dict[str, dict[str, Prepare]] = {
    "cpu": {"ONNX Runtime, ms": onnxruntime_one, "torch bfloat16, ms": bfloat16_one},
    "cuda": {
        "1 image, ms": cuda_one,
        f"batch of {BATCH}, ms": cuda_batch,
        f"training step of {BATCH}, ms": cuda_step,
    },
}


def markdown(rows: list[dict[str, Any]], columns: list[str]) -> str:
    """The table; each time with its ratio to compound scaling's at the same budget."""
    head = ["rule", "multiply-adds", "depth", "width", "resolution", "parameters", "activations", *columns]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for row in rows:
        peer = next(one for one in rows if one["budget"] == row["budget"] and one["rule"] == "compound")
        cells = [
            row["rule"], f"{row['macs'] / 1e9:.2f}B", f"{row['depth']:.2f}", f"{row['width']:.2f}",
            f"{row['resolution']} px", f"{row['params'] / 1e6:.1f}M", f"{row['activations'] / 1e6:.1f}M",
        ]  # fmt: skip
        for column in columns:
            own, theirs = (one["times"].get(column) for one in (row, peer))
            if own is None:
                cells.append("-")
            elif theirs is None or row is peer:
                cells.append(f"{own['median']:.2f}")
            else:
                cells.append(f"{own['median']:.2f} ({own['median'] / theirs['median']:.2f}x)")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--budgets", default="0.8G,1.8G,4.4G", metavar="N,N", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    given = parser.parse_args()
    start = time.monotonic()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rows, subjects = networks([parse_count(text) for text in given.budgets.split(",")])
    for row in rows:
        row["times"] = {}
    where = torch.cuda.get_device_name() if given.device == "cuda" else f"{machine()}, one thread"
    document = {"device": where, "torch": torch.__version__, "date": time.strftime("%Y-%m-%d"), "rows": rows}
    measurements = MEASUREMENTS[given.device]
    for column, prepare in measurements.items():
        found = times(subjects, prepare, given.rounds)
        for row in rows:
            if row["name"] in found:
                latency = found[row["name"]]
                row["times"][column] = {"median": latency.median, "spread": latency.spread, "runs": latency.runs}
        print(f"{column}: done after {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
        if given.out is not None:
            given.out.write_text(json.dumps(document, indent=1) + "\n")
        if given.device == "cuda":
            torch.cuda.empty_cache()
    print(f"\n{where}, torch {torch.__version__}, medians of {given.rounds} interleaved rounds\n")
    print(markdown(rows, list(measurements)))


if __name__ == "__main__":
    main()
