"""Ends right after sums over all processes: `sums_once.py`, under torchrun."""

from __future__ import annotations

import torch

from compoundnet.train import Hardware, launch
from compoundnet.train.processes import total


def main() -> None:
    fabric = launch(Hardware(accelerator="cpu"))
    for _ in range(20):
        total(fabric, torch.zeros(200_000))


if __name__ == "__main__":
    main()
