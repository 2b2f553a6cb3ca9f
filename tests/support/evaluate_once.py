"""Evaluates a model folder in processes of its own: `evaluate_once.py MODEL RESULT.json`, alone or under torchrun."""

from __future__ import annotations

import sys
from pathlib import Path

from small_train import small_dataset

from compoundnet.models import open_model
from compoundnet.train import Hardware, evaluate, launch
from compoundnet.train.results import write_result


def main() -> None:
    model, output = sys.argv[1:]
    fabric = launch(Hardware(accelerator="cpu"))
    # 31 images: no number of processes and no batch shares them out evenly.
    found = evaluate(open_model(model), small_dataset(test=31), fabric=fabric, batch=4)
    result = write_result(found.result, confusion=found.confusion.tolist())
    Path(f"{output}.{fabric.global_rank}").write_bytes(result)


if __name__ == "__main__":
    main()
