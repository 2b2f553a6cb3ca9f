"""The paper's method from start to end on CIFAR-10: tune a recipe, find the coefficients, scale, compare.

    python -m studies.method_cifar10 CIFAR10

CIFAR10 is a folder or a .zip file of images, train/CLASS/*.jpg and test/CLASS/*.jpg. The same command goes on after an
interruption; finished trainings are never repeated. The documented trainings are in bf16 and a CPU trains in fp32, so
it begins a study of its own. Every network is trained on the training images without 5,000 held-out ones. The recipe
and the coefficients are chosen by the held-out images alone; the test images only compare.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from compoundnet.arch import Network, cost
from compoundnet.base import CompoundNetError, make_folder
from compoundnet.base.machine import keep_freed_memory
from compoundnet.base.units import format_duration
from compoundnet.data import open_dataset
from compoundnet.data.holdout import hold_out
from compoundnet.models.zip_files import ZIP_ERRORS
from compoundnet.search.study.lines import Multipliers, StudyLines, scaled
from compoundnet.train import find_recipe
from compoundnet.train.overrides import override
from studies.method_cifar10 import duration, points, report, smoke
from studies.method_cifar10.resident import Trained, check_recipe, load
from studies.method_cifar10.trainings import FinishedTraining, TrainingKey, TrainingsFile, training_key
from studies.method_cifar10.workers import Job, train_all

ROOT = Path(__file__).resolve().parents[2]
BASELINE = ROOT / "examples" / "small-images.toml"
RECIPE = Path(__file__).with_name("recipe.toml")
DOCUMENTED = ROOT / "docs" / "studies" / "method-cifar10"
# What is tried for the recipe, on the baseline alone.
TRIED = (
    "",
    "label_smoothing=0.1",
    "label_smoothing=0.1 lr=3",
    "label_smoothing=0.1 area=[0.5,1.0]",
    "label_smoothing=0.1 area=[0.5,1.0] lr=0.8",
    "label_smoothing=0.1 area=[0.5,1.0] lr=3",
    "label_smoothing=0.1 area=[0.5,1.0] epochs=40",
    "label_smoothing=0.1 area=[0.5,1.0] epochs=160",
)
# The tuning of the recipe; STEP 1, Figure 8 and Figure 3; what Figure 4 needs beside them.
STAGES = ("tune", "scale", "figure4")
BASE = (1.0, 1.0, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", help="folder or .zip file with train/CLASS and test/CLASS")
    parser.add_argument(
        "-o", "--output", type=Path,
        help="folder of the study; by default docs/studies/method-cifar10 on a GPU, build/method-cifar10 on a CPU and"
        " build/method-cifar10-smoke with --smoke",
    )  # fmt: skip
    parser.add_argument("--baseline", type=Path, default=BASELINE, help="the network's TOML file")
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="its TOML file")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--stages", default=",".join(STAGES), help="which to do")
    parser.add_argument("--budgets", default="2,4", help="multiples of the baseline's cost in Figure 8")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, help="processes that train; by default 4 on a GPU")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no training after this time")
    parser.add_argument("--smoke", action="store_true", help="a reduced form, without DATA and a GPU, in a minute")
    parser.add_argument("--report", action="store_true", help="train nothing; write what finished trainings show")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="changes to the recipe")
    args = parser.parse_args()
    stages = args.stages.split(",")
    if unknown := set(stages) - set(STAGES):
        parser.error(f"--stages: expected some of {', '.join(STAGES)}, got {', '.join(unknown)}")
    if [args.data is not None, args.smoke, args.report].count(True) != 1:
        parser.error("give DATA, --smoke or --report")
    if args.report and args.output is None:
        parser.error("--report needs -o, the folder of the study")
    device = torch.device("cpu" if args.smoke else args.device)
    baseline, recipe = Network.load(args.baseline), override(find_recipe(str(args.recipe)), args.set)
    if device.type == "cpu" and recipe.precision != "fp32" and not args.report:
        print(
            f"precision fp32 instead of {recipe.precision}, which is slow on a CPU: finished trainings in"
            f" {recipe.precision}, as those of docs/studies/method-cifar10, do not count"
        )
        recipe = recipe.replace(precision="fp32")
    if args.smoke:
        baseline, recipe = smoke.reduced(baseline, recipe)
    budgets = tuple(float(budget) for budget in args.budgets.split(","))
    plan = report.Plan(baseline, recipe, budgets, args.seeds, TRIED[:2] if args.smoke else TRIED)
    if args.report:
        done = TrainingsFile(args.output)
        if not done.rows:
            raise CompoundNetError(f"{done.path} has no finished trainings; -o is the folder of the study")
        report.write(args.output, done.rows, plan)
        return
    keep_freed_memory()
    workers = (4 if device.type == "cuda" else 0) if args.workers is None else args.workers
    with tempfile.TemporaryDirectory() as scratch:
        if args.smoke:
            smoke.write_images(Path(scratch))
            torch.set_num_threads(1)  # small networks gain nothing by more, which wait for each other on a busy machine
        data = scratch if args.smoke else unpacked(args.data, Path(scratch))
        output = args.output or default_output(device, args.smoke)
        study(data, output, plan, device, stages, workers, args.seconds)


def default_output(device: torch.device, smoke: bool) -> Path:
    """Return the folder of a study without -o. The documented one is of trainings on a GPU alone."""
    if device.type == "cuda" and not smoke:
        return DOCUMENTED
    return ROOT / "build" / ("method-cifar10-smoke" if smoke else "method-cifar10")


def unpacked(data: str, folder: Path) -> str:
    """Return `data`; for a zip file, the folder to which its images are unpacked."""
    if not zipfile.is_zipfile(data):
        return data
    try:
        with zipfile.ZipFile(data) as archive:
            archive.extractall(folder)
    except ZIP_ERRORS as error:
        raise CompoundNetError(f"{data} cannot be unpacked to {folder}: {error}") from error
    if not all((folder / split).is_dir() for split in ("train", "test")):
        raise CompoundNetError(f"{data}: expected train/CLASS/*.jpg and test/CLASS/*.jpg at the top of the zip file")
    return str(folder)


def study(
    data: str, output: Path, plan: report.Plan, device: torch.device, stages: list[str], workers: int, seconds: float
) -> None:
    """Do what is missing of the stages, then write the report."""
    started = time.monotonic()
    check_recipe(plan.recipe)
    make_folder(output)
    dataset = open_dataset(data)
    amount = plan.recipe.minival
    if not isinstance(amount, int | float) or not amount:
        raise CompoundNetError(
            f"the study judges by held-out images: give minival, a count or a fraction, not {amount}"
        )
    train, held = hold_out(dataset.splits["train"], amount)
    images = [load(split) for split in (train, held, dataset.splits["test"])]
    print(f"{len(train):,} training, {len(held):,} held-out images on {device}, {time.monotonic() - started:.0f} s")
    done = TrainingsFile(output)
    others = report.with_other_recipes(done.rows, plan)
    print(f"{output} has {len(done.rows)} finished trainings{f'; {others} do not count' if others else ''}", flush=True)

    def missing(wanted: Iterable[Job]) -> list[Job]:
        return [job for job in _missing(wanted, done) if job.stage in stages]

    def train_missing(wanted: Iterable[Job]) -> None:
        jobs = missing(wanted)
        # The longest trainings first, so that the processes end together; Figure 4 only when the rest is done.
        jobs.sort(key=lambda job: (job.stage == "figure4", -_work(job)))
        work = sum(map(_work, jobs)) * len(train) / cost(plan.baseline).macs / 1e6
        print(f"{len(jobs)} networks, as much work as {work:,.1f}M images in the baseline", flush=True)
        if device.type == "cpu":  # no kernels to prepare for all seeds at once, and each training may take an hour
            jobs = [job._replace(seeds=(seed,)) for job in jobs for seed in job.seeds]
        for job, trained in train_all(jobs, images, device, workers, started + seconds):
            for seed, result in trained:
                done.add(_row(job, seed, result, device, (len(held), len(dataset.splits["test"]))))
        if left := len(_missing(jobs, done)):
            print(f"out of time, {left} networks are left; the same command goes on", flush=True)

    paper = points.lines(plan.baseline, plan.budgets, points.PAPER)
    figure4 = list(_figure4(plan))  # here, so that budgets which it cannot meet are refused before any training
    for merged in points.step_one(plan.baseline, plan.budgets).merged:
        print(f"STEP 1: {merged}")
    first = [*_tunings(plan), *_networks(plan, paper)]
    if device.type == "cpu" and (ahead := missing([*first, *figure4])):
        hours = format_duration(duration.seconds(ahead, images[0], len(images[1]) + len(images[2])))
        more = f"{len(plan.budgets)} network{'s' if len(plan.budgets) > 1 else ''} that STEP 1 may add"
        without = f", without {more}" if "scale" in stages else ""
        print(f"what is missing takes about {hours} on this CPU{without}", flush=True)
    train_missing(first)
    found = report.coefficients(done.rows, plan)
    if found is not None:
        train_missing([*_networks(plan, points.lines(plan.baseline, plan.budgets, found)), *figure4])
    report.write(output, done.rows, plan)


def _tunings(plan: report.Plan) -> Iterator[Job]:
    for change in plan.tried:
        yield Job("tune", BASE, plan.baseline, override(plan.recipe, change.split()), (0,))


def _networks(plan: report.Plan, compared: StudyLines) -> Iterator[Job]:
    """Return the networks of STEP 1 and of these lines."""
    listed = (point for line in compared.lines for point in line.points)
    return _jobs("scale", plan, (BASE, *points.step_one(plan.baseline, plan.budgets).points, *listed))


def _figure4(plan: report.Plan) -> Iterator[Job]:
    lines = points.widths_on_four_baselines(plan.baseline, plan.budgets).lines
    return _jobs("figure4", plan, (point for line in lines for point in line.points))


def _jobs(stage: str, plan: report.Plan, listed: Iterable[Multipliers]) -> Iterator[Job]:
    for point in listed:
        yield Job(stage, point, scaled(plan.baseline, point), plan.recipe, tuple(range(plan.seeds)))


def _missing(jobs: Iterable[Job], done: TrainingsFile) -> list[Job]:
    """Return each job once, with the seeds that are not finished."""
    known = {row.key for row in done.rows}
    missing: dict[TrainingKey, Job] = {}
    for job in jobs:
        seeds = tuple(seed for seed in job.seeds if training_key(job.network, seed, job.recipe) not in known)
        if seeds:
            missing.setdefault(training_key(job.network, 0, job.recipe), job._replace(seeds=seeds))
    return list(missing.values())


def _work(job: Job) -> float:
    return cost(job.network).macs * job.recipe.epochs * len(job.seeds)


def _row(job: Job, seed: int, trained: Trained, device: torch.device, judged: tuple[int, int]) -> FinishedTraining:
    """Return a line of the file, and print it. `judged`: the numbers of held-out and of test images."""
    costs = cost(job.network)
    depth, width, factor = job.multipliers
    print(
        f"{job.stage} d={depth:.3g} w={width:.3g} r={factor:.3g} seed {seed}: held-out {trained.held:.2%}, test"
        f" {trained.test:.2%}, loss {trained.loss:.3f}, {trained.seconds:.1f} s",
        flush=True,
    )
    return FinishedTraining(
        job.stage, job.multipliers, job.network.dumps(), seed,
        0.0 if trained.diverged else trained.held, 0.0 if trained.diverged else trained.test,
        None if trained.diverged else trained.loss, costs.macs, costs.params, round(trained.seconds, 2),
        torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU", job.recipe.dumps(),
        *judged,
    )  # fmt: skip


if __name__ == "__main__":
    try:
        main()
    except CompoundNetError as error:
        sys.exit(str(error))
