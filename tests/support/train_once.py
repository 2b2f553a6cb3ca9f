"""Trains the small network in a process of its own: `python train_once.py OUTPUT [OPTION ...] [KEY=VALUE ...]`.

Options are --resume, --ddp, --fsdp, --gpu, --worker: another process decodes the images, and --data=FOLDER. Under
torchrun it takes part in the run; "{rank}" in OUTPUT is its number there. PAUSE seconds after each step leave time for
a signal to arrive.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Literal

import torch
from small_train import small_dataset, small_network, small_recipe

from compoundnet.data import open_dataset
from compoundnet.train import Hardware, Watcher, launch, plan_task, train
from compoundnet.train.interruptions import InterruptedRunError


class Slow(Watcher):
    """Says each step."""

    def stepped(self, step: int, loss: float) -> None:
        print(step, flush=True)
        time.sleep(float(os.environ.get("PAUSE", "0")))


def main() -> None:
    output, *rest = sys.argv[1:]
    torch.set_num_threads(1)
    recipe = small_recipe(*(word for word in rest if not word.startswith("--")))
    strategy: Literal["auto", "ddp", "fsdp"] = "fsdp" if "--fsdp" in rest else "ddp" if "--ddp" in rest else "auto"
    hardware = Hardware(accelerator="gpu" if "--gpu" in rest else "cpu", strategy=strategy)
    fabric = launch(hardware, recipe)
    data = next((word.removeprefix("--data=") for word in rest if word.startswith("--data=")), None)
    task = plan_task(recipe, open_dataset(data) if data else small_dataset(), network=small_network())
    where, workers = Path(output.format(rank=fabric.global_rank)), int("--worker" in rest)
    try:
        train(task, where, fabric=fabric, workers=workers, resume="--resume" in rest, watcher=Slow())
    except InterruptedRunError as error:
        print(error, file=sys.stderr)
        sys.exit(3)


if __name__ == "__main__":
    main()
