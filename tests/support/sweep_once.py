"""A sweep of two points in a process of its own: `python sweep_once.py OUTPUT`. Prints each start and each epoch."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from small_train import small_dataset, small_network

from compoundnet.search.sweep import SweepGrid, sweep
from compoundnet.train import Epoch, Recipe, Watcher, find_recipe, override

GRID = SweepGrid(lrs=(1e-9, 0.1), decay_ratios=(0.0,), held_out=0.2)


class Printing(Watcher):
    """Prints the step that a training starts at, and the steps at which epochs end, after their checkpoints."""

    def started(self, step: int, steps: int, batch: int) -> None:
        print(f"started {step}", flush=True)

    def epoch_ended(self, epoch: Epoch) -> None:
        print(f"epoch {epoch.step}", flush=True)


def small_recipe() -> Recipe:
    """With a checkpoint after every epoch of six steps."""
    return override(
        find_recipe("kornblith"), ["steps=24", "batch=10", "precision=fp32", "area=[0.9, 1.0]", "save_epochs=1"]
    )


def whole_sweep(output: Path, watcher: Watcher | None = None) -> Recipe:
    """Sweep, or go on with it."""
    data = small_dataset(train=75)
    return sweep(small_recipe(), data, output, network=small_network(), grid=GRID, watcher=watcher)


def main() -> None:
    torch.set_num_threads(1)
    print(f"best {whole_sweep(Path(sys.argv[1]), Printing()).lr}")


if __name__ == "__main__":
    main()
