"""The paper's method from start to end on CIFAR-10: tune a recipe, find the coefficients, scale, compare.

    python -m studies.method_cifar10 CIFAR10 -o docs/studies/method-cifar10

CIFAR10 is a folder of images, train/CLASS/*.jpg and test/CLASS/*.jpg. The same command goes on after an interruption;
finished trainings are never repeated. Every network is trained on the training images without 5,000 held-out ones. The
recipe and the coefficients are chosen by the held-out images alone; the test images only compare.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from compoundnet.arch import Coefficients, Network, cost
from compoundnet.base import CompoundNetError, make_folder
from compoundnet.data import open_dataset
from compoundnet.data.holdout import hold_out
from compoundnet.search.study.lines import Multipliers, scaled
from compoundnet.train import find_recipe
from compoundnet.train.overrides import override
from compoundnet.train.recipe import Recipe
from studies.method_cifar10 import points, report
from studies.method_cifar10.resident import Images, Trained, Training, check_recipe, load, run
from studies.method_cifar10.trainings import FinishedTraining, TrainingKey, TrainingsFile, training_key

ROOT = Path(__file__).resolve().parents[2]
BASELINE = ROOT / "examples" / "small-images.toml"
RECIPE = Path(__file__).with_name("recipe.toml")
# What was tried for the recipe, on the baseline alone: one change each.
TRIED = (
    "",
    "lr=3e-3",
    "lr=1.2e-2",
    "weight_decay=0.2",
    "area=[0.7,1.0]",
    "area=[0.35,1.0]",
    "label_smoothing=0",
    "batch=256",
    "optimizer.kind=sgd lr=0.5 weight_decay=5e-4",
    "optimizer.kind=sgd lr=1.5 weight_decay=5e-4",
)
STAGES = ("tune", "step1", "figure8")
BASE = (1.0, 1.0, 1.0)


class Job(NamedTuple):
    """A training to do."""

    stage: str
    multipliers: Multipliers
    network: Network
    seed: int
    recipe: Recipe
    change: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder with train/CLASS and test/CLASS")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--baseline", type=Path, default=BASELINE, help="the network's TOML file")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--stages", default=",".join(STAGES), help="which to do, of tune,step1,figure8")
    parser.add_argument("--budgets", default="2,4", help="multiples of the baseline's cost in Figure 8")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--together", type=int, default=4, help="networks trained at once on a GPU")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no training after this time")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="changes to the recipe")
    args = parser.parse_args()
    stages = args.stages.split(",")
    if unknown := set(stages) - set(STAGES):
        parser.error(f"--stages: expected some of {', '.join(STAGES)}, got {', '.join(unknown)}")
    recipe = override(find_recipe(str(RECIPE)), args.set)
    if args.device == "cpu":
        recipe = recipe.replace(precision="fp32")
    budgets = tuple(float(budget) for budget in args.budgets.split(","))
    plan = report.Plan(Network.load(args.baseline), recipe, budgets, args.seeds)
    study(args.data, args.output, plan, torch.device(args.device), stages, args.together, args.seconds)


def study(
    data: str, output: Path, plan: report.Plan, device: torch.device, stages: list[str], together: int, seconds: float
) -> None:
    """Do what is missing of the stages, then write the report."""
    started = time.monotonic()
    check_recipe(plan.recipe)
    make_folder(output)
    dataset = open_dataset(data)
    train, held = hold_out(dataset.splits["train"], plan.recipe.minival)
    images = [load(split) for split in (train, held, dataset.splits["test"])]
    resident = [part.to(device) for part in images]
    print(f"{len(train):,} training, {len(held):,} held-out images on {device}, {time.monotonic() - started:.0f} s")
    done = TrainingsFile(output)
    for stage in stages:
        found = report.coefficients(done.rows, plan) if stage == "figure8" else None
        if stage == "figure8" and found is None:
            print("figure8 needs the coefficients of step1, which is not finished")
            break
        jobs = _missing(_jobs(stage, plan, found), done)
        work = _images(jobs, plan.baseline, len(train)) / 1e6
        print(f"{stage}: {len(jobs)} trainings, as much work as {work:,.1f}M images in the baseline", flush=True)
        _train(jobs, done, resident, together, started + seconds)
    report.write(output, done.rows, plan)


def _jobs(stage: str, plan: report.Plan, found: Coefficients | None) -> Iterator[Job]:
    """Return the trainings of a stage: all networks with the first seed come first."""
    baseline = plan.baseline
    if stage == "tune":
        for change in TRIED:
            changed = override(plan.recipe, change.split())
            yield Job(stage, BASE, baseline, 0, changed, change or "as it is")
        return
    if stage == "step1":
        chosen = [BASE, *points.step_one(baseline, plan.budgets)]
    else:
        assert found is not None
        lines = points.lines(baseline, plan.budgets, found).lines
        chosen = [point for at_one_cost in zip(*(line.points for line in lines), strict=True) for point in at_one_cost]
    for seed in range(plan.seeds):
        for point in chosen:
            yield Job("scale", point, scaled(baseline, point), seed, plan.recipe)


def _missing(jobs: Iterable[Job], done: TrainingsFile) -> list[Job]:
    known = {row.key for row in done.rows}
    missing: dict[TrainingKey, Job] = {}
    for job in jobs:
        key = training_key(job.network, job.seed, job.recipe.dumps())
        if key not in known:
            missing.setdefault(key, job)
    return list(missing.values())


def _images(jobs: list[Job], baseline: Network, count: int) -> float:
    """Return the images of all epochs, each counted by its cost in units of the baseline's."""
    unit = cost(baseline).macs
    return sum(job.recipe.epochs * count * cost(job.network).macs / unit for job in jobs)


def _train(jobs: list[Job], done: TrainingsFile, images: list[Images], together: int, until: float) -> None:
    train, held, test = images

    def started() -> Iterator[tuple[Job, Callable[[], Training]]]:
        for job in jobs:
            if time.monotonic() > until:
                print("out of time: the same command goes on", flush=True)
                return
            yield job, partial(Training, job.network, job.recipe, job.seed, train)

    on_cpu = train.pixels.device.type == "cpu"
    for count, (job, trained) in enumerate(run(started(), held, test, 1 if on_cpu else together), start=1):
        done.add(_row(job, trained, train))
        depth, width, factor = job.multipliers
        print(f"{count:3d}/{len(jobs)} d={depth:.3g} w={width:.3g} r={factor:.3g} {job.change} seed {job.seed}:"
              f" held {trained.held:.2%}, test {trained.test:.2%}, {trained.seconds:.1f} s", flush=True)  # fmt: skip


def _row(job: Job, trained: Trained, train: Images) -> FinishedTraining:
    costs = cost(job.network)
    device = train.pixels.device
    return FinishedTraining(
        job.stage, job.multipliers, job.network.dumps(), job.seed,
        0.0 if trained.diverged else trained.held, 0.0 if trained.diverged else trained.test,
        None if trained.diverged else trained.loss, costs.macs, costs.params, round(trained.seconds, 2),
        torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU", job.recipe.dumps(), job.change,
    )  # fmt: skip


if __name__ == "__main__":
    try:
        main()
    except CompoundNetError as error:
        sys.exit(str(error))
