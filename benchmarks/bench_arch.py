"""Counting without building: cost of B7 against torch's counter on the built module, and whole-process starts."""

from __future__ import annotations

import subprocess
import sys

import torch
from harness import compare
from torch.utils.flop_counter import FlopCounterMode

import compoundnet as cn
from compoundnet.arch import costs, memory, segments

CACHED = (
    segments.block_group,
    segments.stem_group,
    segments.head_group,
    costs._reach,
    memory._forward,
    memory._saved,
    memory._backward,
)


def main() -> None:
    b7 = cn.network("efficientnet-b7")
    with torch.device("meta"):
        net, image = cn.build(b7).eval(), torch.empty(1, 3, 600, 600)

    def counter() -> int:
        with FlopCounterMode(display=False) as mode, torch.no_grad():
            net(image)
        total: int = mode.get_total_flops()
        return total

    def cold() -> cn.Cost:
        for function in CACHED:
            function.cache_clear()
        return cn.cost(b7)

    assert counter() == 2 * cold().macs
    compare(
        "cost of EfficientNet-B7",
        {"cost(b7), first time": cold, "cost(b7), again": lambda: cn.cost(b7), "torch's FLOP counter": counter},
        ours="cost(b7), first time",
    )
    python = [sys.executable, "-c"]
    command = [sys.executable, "-m", "compoundnet", "plan", "efficientnet-b0", "--max-macs", "1.8G"]
    compare(
        "whole processes",
        {
            "python -c 'import compoundnet'": lambda: subprocess.run([*python, "import compoundnet"], check=True),
            "python -c 'import torch'": lambda: subprocess.run([*python, "import torch"], check=True),
            "compoundnet plan --max-macs 1.8G": lambda: subprocess.run(command, check=True, capture_output=True),
        },
        ours="compoundnet plan --max-macs 1.8G",
        rounds=5,
    )


if __name__ == "__main__":
    main()
