"""Inference of B0, B4, B7 and Lite0 at several batches: eager, in CUDA graphs, and compiled with them; against timm.

Weights and activations in bfloat16, channels last; ours with its norms folded (`fuse`), as `session` runs it.
"""

from __future__ import annotations

import time
from functools import cache

import torch
from contest import Case, Gate, Prepared, Values, hold
from networks import SIZES, network
from section import device, latency, milliseconds, parse
from torch import nn

from compoundnet.nn import ConvNet
from compoundnet.runtime.timing.resident import forward, on_device, random_images, recorded

BATCHES = {"b0": (1, 32, 256, 1024), "lite0": (1, 32, 256, 1024), "b4": (1, 32, 128), "b7": (1, 32, 64), "tiny": (1, 2)}
GIGABYTES = {"b0": 9, "lite0": 9, "b4": 7, "b7": 12, "tiny": 1}


def prepare(case: Case, gate: Gate) -> Prepared:
    where = device()
    torch.manual_seed(0)
    net = _built(case._replace(mode="", batch=0))
    shape = case.batch, 3, case.size, case.size
    run = forward(net, random_images(shape, "bfloat16", where), compiled=case.mode == "compiled")

    # The first two calls of a compiled network record its graphs.
    with gate.inside(case.gigabytes):
        for _ in range(3):
            run()

    def measure() -> Values:
        # Recorded each time, because a graph keeps the memory that it runs in.
        replay = recorded(run) if case.mode == "graphs" else run
        replay()
        once = milliseconds(replay, 2)
        found = {"ms": milliseconds(replay, max(3, min(50, int(60 / once))))}
        if case.batch == 1:
            found["latency_ms"] = latency(replay, 21)
        return found

    return Prepared(measure, {})


@cache
def _built(case: Case) -> nn.Module:
    net = network(case).eval()
    if isinstance(net, ConvNet):
        net = net.fuse()
    return on_device(net, "bfloat16", device())


def group(name: str, libraries: tuple[str, ...], modes: tuple[str, ...], most: int = 9) -> list[Case]:
    """The cases of one process: a network at its first batches, in all libraries and modes."""
    return [
        # Not at the gate while it compiles: at most 256 images of B0 are.
        Case(name, library, mode, batch, SIZES[name], 0 if mode == "compiled" else GIGABYTES[name])
        for library in libraries for batch in BATCHES[name][:most] for mode in modes
    ]  # fmt: skip


def main() -> None:
    section = parse(__doc__)
    if section.smoke:
        hold(section, [group("tiny", ("compoundnet", "timm tf_"), ("eager",))], prepare, memory=0.5, rounds=2)
        return
    long = section.prepared_by - time.monotonic() > 150
    groups = [
        group(name, (library,), ("compiled",), 3 if long else 1)
        for name in ("b0", "lite0") for library in ("compoundnet", "timm tf_")
    ]  # fmt: skip
    for name in ("b0", "lite0", "b4", "b7"):
        groups += [group(name, (library,), ("eager", "graphs")) for library in ("compoundnet", "timm tf_", "timm")]
    hold(section, groups, prepare, memory=0.145, rounds=3)


if __name__ == "__main__":
    main()
