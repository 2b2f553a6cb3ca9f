"""`fit` against three other ways to a classifier within a budget, given the same wall time.

    python benchmarks/bench_fit.py --cifar cifar10.zip [--time 600] [--device cuda] [--seeds 2] [--out fit]
    python benchmarks/bench_fit.py --cifar cifar10.zip --data few digits --budget 0.33 --way fit probe

Four data sets: CIFAR-10's first 100 images of each class (`many`), its first 10 (`few`), 300 of the first class down to
10 of the last (`unequal`), and scikit-learn's digits (`digits`). Three budgets for each: the latency of Lite0 at 224 px
in float32 on this machine, on one thread, times 1, 1/3 and 1/10. The ways:

- `fit`: `compoundnet fit --max-latency ... --time ...`, with the models that are at hand;
- `largest`: the pretrained network with the most multiply-adds that fits at its own resolution, fine-tuned; if none
  fits, Lite0 scaled down by `plan --max-latency` and trained from scratch;
- `lite0`: Lite0 at the largest resolution that fits, recipe `finetune`;
- `probe`: logistic regression on Lite0's features at that resolution.

The trainings of `largest` and `lite0` get as many epochs, up to 20, as fit the time that `fit` gets: one that takes
longer than estimated is shortened, as those of `fit` are. A finished cell is not run again: the results are in
OUT/fit.jsonl, a line each. In those of `fit`, `latency` is corrected for a machine that became `slower` since the
screen, by that factor, and `held_out` is the accuracy on held-out training images. `--smoke` tries the script: its
numbers mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from cifar import machine_of, unpack

SETS = {"many": [100] * 10, "few": [10] * 10, "unequal": [300, 200, 140, 100, 70, 50, 35, 25, 15, 10], "digits": None}
BUDGETS = (1.0, 0.33, 0.1)
WAYS = ("fit", "largest", "lite0", "probe")
LITE0 = "efficientnet-lite0"
MOST_EPOCHS, OVER = 20, 1.5


class Cell(NamedTuple):
    """One run: the way, the data set, the budget as a fraction, its milliseconds, the seed and the seconds."""

    way: str
    data: str
    budget: float
    limit: float
    seed: int
    seconds: float


def latency(model: Any, resolution: int) -> float:
    """Milliseconds of one image on one thread, the median."""
    import msgspec

    from compoundnet.fit.ways import network_latency
    from compoundnet.models import open_folder
    from compoundnet.runtime import Embedder

    opened = open_folder(model)
    return network_latency(Embedder(opened, preprocess=msgspec.structs.replace(opened.preprocess, size=resolution)), 1)


def largest_side(cell: Cell) -> int | None:
    """The largest resolution at which Lite0 fits, of those that `fit` tries; with the largest budget its own, whose
    latency the budget is."""
    from compoundnet.fit.candidates import resolutions_of
    from compoundnet.models import open_folder

    sides = list(reversed(resolutions_of(open_folder(LITE0))))
    if cell.budget == 1:
        return sides[0]
    return next((side for side in sides if latency(LITE0, side) <= cell.limit), None)


def run_fit(cell: Cell, data: Any, scratch: Path) -> dict[str, Any]:
    from compoundnet.base import CompoundNetError
    from compoundnet.fit import Limits, fit

    limits = Limits(max_latency=cell.limit)
    try:
        found = fit(data, scratch / "best", limits, seconds=cell.seconds, seed=cell.seed, notify=print)
    except CompoundNetError as error:  # nothing fits
        return {"accuracy": None, "answer": str(error)}
    answer = found.answer
    assert answer is not None and answer.result is not None
    return {
        "accuracy": answer.result.top1, "latency": answer.latency, "slower": answer.slower,
        "answer": str(answer.candidate), "fine_tuned": answer.fine_tuned, "cross_validated": answer.cross_validated,
        "held_out": None if answer.held_out is None else answer.held_out.accuracy, "notes": found.notes,
    }  # fmt: skip


def run_largest(cell: Cell, data: Any, scratch: Path) -> dict[str, Any]:
    from compoundnet import arch
    from compoundnet.fit import models_at_hand
    from compoundnet.models import open_folder
    from compoundnet.runtime.timing.latency_bound import plan_within

    opened = {name: open_folder(name) for name in models_at_hand()}
    fitting = {
        name: arch.cost(model.network).macs
        for name, model in opened.items()
        if latency(name, model.preprocess.size) <= cell.limit
    }
    if fitting:
        name = max(fitting, key=lambda name: fitting[name])
        model = opened[name]
        return trained(cell, data, scratch, name, start=model, resolution=model.preprocess.size)
    network = plan_within(arch.network(LITE0).replace(num_classes=len(data.classes)), cell.limit).plan.network
    return trained(cell, data, scratch, network.name, network=network, resolution=network.resolution)


def run_lite0(cell: Cell, data: Any, scratch: Path) -> dict[str, Any]:
    from compoundnet.models import open_folder

    side = largest_side(cell)
    if side is None:
        return {"accuracy": None, "answer": "nothing fits"}
    return trained(cell, data, scratch, f"{LITE0} at {side} px", start=open_folder(LITE0), resolution=side)


def run_probe(cell: Cell, data: Any, scratch: Path) -> dict[str, Any]:
    from compoundnet.models import open_folder
    from compoundnet.train import find_recipe, plan_task, train

    side = largest_side(cell)
    if side is None:
        return {"accuracy": None, "answer": "nothing fits"}
    recipe = find_recipe("probe").replace(resolution=side, seed=cell.seed)
    result = train(plan_task(recipe, data, start=open_folder(LITE0)), scratch / "probe", loggers=[]).result
    assert result is not None
    return {"accuracy": result.top1, "answer": f"{LITE0} at {side} px, probe"}


def trained(cell: Cell, data: Any, scratch: Path, name: str, *, resolution: int, **what: Any) -> dict[str, Any]:
    """Train for as many epochs as fit the time, and return the accuracy on the test images."""
    from compoundnet.fit.in_time import InTime, TimeIsUpError, train_in_time
    from compoundnet.train import Hardware, Watcher, find_recipe, launch, plan_task, train
    from compoundnet.train.checkpoints import Checkpoints
    from compoundnet.train.engine import Engine
    from compoundnet.train.logs import Logs
    from compoundnet.train.run import run_folder

    ends, place = time.time() + cell.seconds, scratch / "trained"
    recipe = find_recipe("finetune" if "start" in what else "quick")
    recipe = recipe.replace(resolution=resolution, seed=cell.seed, save_epochs=1)  # it goes on where it is shortened
    task = plan_task(recipe, data, **what)
    engine = Engine(task, launch(Hardware(devices=1), recipe), Checkpoints(scratch / "none", 1), Logs(None))
    seconds, each = engine.summary().seconds, engine.epoch_steps
    assert seconds is not None
    until = ends - seconds.test
    # Estimates are not exact: rather too many epochs, which are shortened to the time that there is.
    possible = OVER * (until - time.time()) * recipe.epochs / (seconds.total - seconds.test)
    epochs = max(1, min(MOST_EPOCHS, int(possible)))

    def train_on(task: Any) -> Any:
        watcher = InTime.of_task(until, task, each, Watcher())
        return task.recipe.epochs, train(task, place, resume=run_folder(place).exists(), watcher=watcher, loggers=[])

    task = plan_task(recipe.replace(epochs=epochs), data, **what)
    try:
        trained_for, outcome = train_in_time(place, task, each, train_on, print)
    except TimeIsUpError as error:  # in the first epochs, by whose time it would be shortened
        return {"accuracy": None, "answer": f"{name}: {error}"}
    assert outcome.result is not None
    return {"accuracy": outcome.result.top1, "answer": f"{name}, {trained_for:.3g} epochs"}


RUN: dict[str, Callable[[Cell, Any, Path], dict[str, Any]]] = {
    "fit": run_fit, "largest": run_largest, "lite0": run_lite0, "probe": run_probe,
}  # fmt: skip


def markdown(rows: list[dict[str, Any]], machine: str) -> str:
    """The table: a row for each data set and budget, a column for each way."""

    def cell(way: str, data: str, budget: float) -> str:
        scores = [
            row["accuracy"]
            for row in rows
            if (row["way"], row["data"], row["budget"]) == (way, data, budget) and row["accuracy"] is not None
        ]
        if not scores:
            return ""
        spread = f" ± {100 * statistics.stdev(scores):.1f}" if len(scores) > 1 else ""
        return f"{100 * statistics.mean(scores):.1f}{spread}"

    seconds = sorted({row["time"] for row in rows})
    lines = [
        f"Top-1 in % on the test images, {' or '.join(f'{value:g}' for value in seconds)} s each (± standard deviation"
        f" over seeds); {machine}.",
        "",
        "| data | budget | " + " | ".join(WAYS) + " |",
        "|---|---|" + "---|" * len(WAYS),
    ]
    for data in SETS:
        for budget in BUDGETS:
            cells = [cell(way, data, budget) for way in WAYS]
            if any(cells):
                limit = next(row["limit"] for row in rows if (row["data"], row["budget"]) == (data, budget))
                lines.append(f"| {data} | {budget:g}: {limit:.3g} ms | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", type=Path, required=True)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cpu", help="what trains; latency is the CPU's")
    parser.add_argument("--out", type=Path, default=Path("fit"), help="folder of fit.md and fit.jsonl")
    parser.add_argument("--time", type=float, default=600, help="seconds of each run")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--test", type=int, default=200, help="test images of each class of CIFAR-10")
    parser.add_argument("--data", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--budget", nargs="+", type=float, default=list(BUDGETS))
    parser.add_argument("--way", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    if given.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if given.smoke:
        given.data, given.budget, given.seeds, given.time, given.test = ["few"], [0.1], 1, 60.0, 5
    from compoundnet.base.machine import keep_freed_memory
    from compoundnet.data import open_dataset

    keep_freed_memory()  # as the commands `fit` and `train` do

    given.out.mkdir(parents=True, exist_ok=True)
    log = given.out / "fit.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    done = {(row["way"], row["data"], row["budget"], row["seed"], row["time"]) for row in rows}
    # The latency is measured once for all cells, also where a run goes on: a machine's clock is not the same all day.
    whole = rows[0]["limit"] / rows[0]["budget"] if rows else latency(LITE0, 224)
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(given.seeds):
            for name in given.data:
                counts = SETS[name]
                data = "digits" if counts is None else unpack(given.cifar, Path(scratch, name), counts, given.test)
                for budget in given.budget:
                    for way in given.way:
                        if (way, name, budget, seed, given.time) in done:
                            continue
                        cell = Cell(way, name, budget, budget * whole, seed, given.time)
                        place, began = Path(scratch, "run"), time.monotonic()
                        place.mkdir()
                        found = RUN[way](cell, open_dataset(data), place)
                        shutil.rmtree(place)
                        row = {
                            "way": way, "data": name, "budget": budget, "limit": cell.limit, "seed": seed,
                            "time": given.time, "took": round(time.monotonic() - began, 1), **found,
                        }  # fmt: skip
                        rows.append(row)
                        print(json.dumps(row), flush=True)
                        with log.open("a") as file:
                            file.write(json.dumps(row) + "\n")
    text = markdown(rows, machine_of(given.device))
    (given.out / "fit.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
