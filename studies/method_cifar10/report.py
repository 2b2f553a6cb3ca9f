"""The results of the study: the tuning, STEP 1, and Figure 8 in the form that `reproduce figure8 --results` reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import optuna

from compoundnet.arch import Coefficients, FoundCoefficients, Network
from compoundnet.base import decode_toml, format_count, write_whole
from compoundnet.search.coefficients.grid import CoefficientPoint, describe
from compoundnet.search.coefficients.grid_plot import draw_coefficients
from compoundnet.search.findings import ReportTable
from compoundnet.search.network_results import NetworkResult
from compoundnet.search.study import findings
from compoundnet.search.study.lines import FigureNumber, StudyLines, label, scaled
from compoundnet.search.study.settings import ScalingStudy
from compoundnet.train.recipe import Recipe
from compoundnet.trials.measurement import TrialOutcome
from compoundnet.trials.settings import as_toml
from compoundnet.trials.statistics import AccuracySample, difference, interval, percent
from compoundnet.trials.statistics import points as in_points
from studies.method_cifar10 import points
from studies.method_cifar10.trainings import FILE, FOLLOWED, FinishedTraining, training_key


class Plan(NamedTuple):
    """What the study does.

    Attributes:
        baseline: The network that is scaled.
        recipe: The recipe of all networks.
        budgets: Multiples of the baseline's cost.
        seeds: The number of trainings of each network.
        tried: Changes to the recipe that are tried on the baseline, each as `--set` takes it.
    """

    baseline: Network
    recipe: Recipe
    budgets: tuple[float, ...]
    seeds: int
    tried: tuple[str, ...]


def write(output: Path, rows: Sequence[FinishedTraining], plan: Plan) -> None:
    """Write what the finished trainings show: tables in Markdown, plots, coefficients.toml, a folder a figure.

    Without a training of each point of STEP 1 with this recipe, only the tuning is written, and a line says so.
    """
    found = coefficients(rows, plan)
    compared: dict[FigureNumber, StudyLines] = {} if found is None else {
        8: points.lines(plan.baseline, plan.budgets, found),
        3: points.one_dimension(plan.baseline, plan.budgets),
        4: points.widths_on_four_baselines(plan.baseline, plan.budgets),
    }  # fmt: skip
    tried = [row for row in rows if row.stage == "tune"]
    if tried:
        write_whole(output / "tuning.md", _tuning(tried).markdown().encode())
    if found is None:
        print(_lacking(rows, plan))
        return
    grid = _grid(rows, plan)
    table, verdict = _step_one(grid)
    verdict = " ".join((verdict, *points.step_one(plan.baseline, plan.budgets).merged))
    write_whole(output / "step1.md", f"{verdict}\n\n{table.markdown()}".encode())
    _write_plot(output / "step1", draw_coefficients(grid))
    first = grid[0][1].sample
    about = f"STEP 1 on CIFAR-10, {first.images:,} held-out images, {len(first.accuracies)} seeds. {verdict}"
    kept = FoundCoefficients(found.alpha, found.beta, found.gamma, plan.baseline, about)
    write_whole(output / "coefficients.toml", msgspec.toml.encode(kept))
    for figure, lines in compared.items():
        settings = ScalingStudy(figure, plan.baseline, lines, "cifar10", plan.recipe, plan.seeds)
        _write_figure(output / f"figure{figure}", settings, _trials(settings, rows))


def _write_figure(folder: Path, settings: ScalingStudy, trials: list[optuna.trial.FrozenTrial]) -> None:
    if not trials:
        return
    folder.mkdir(exist_ok=True)
    result = findings.find(settings, trials)
    for name, text in result.files.items():
        write_whole(folder / name, text.encode())
    for figure in findings.figures(settings, trials, result):
        _write_plot(folder / figure.name, (figure.svg, figure.png))
    write_whole(folder / "search.toml", as_toml(settings))
    write_whole(folder / "result.toml", findings.result(settings, trials).encode())


def coefficients(rows: Sequence[FinishedTraining], plan: Plan) -> Coefficients | None:
    """Return the coefficients of STEP 1's best point by held-out images; None until each point has a training."""
    grid = _grid(rows, plan)
    if len(grid) < len(points.step_one(plan.baseline, plan.budgets).points):
        return None
    return max(grid, key=lambda entry: entry[1].accuracy)[0].coefficients


def _grid(rows: Sequence[FinishedTraining], plan: Plan) -> list[tuple[CoefficientPoint, NetworkResult]]:
    """Return the points of STEP 1 that have a training, judged on the held-out images."""
    grid = []
    for position, multipliers in enumerate(points.step_one(plan.baseline, plan.budgets).points):
        network = scaled(plan.baseline, multipliers)
        own = _of(rows, network, plan.recipe)
        if own:
            sample = AccuracySample(tuple(row.held for row in own), own[0].held_images)
            point = CoefficientPoint(Coefficients(*(round(value, 4) for value in multipliers)), network)
            grid.append(
                (
                    point,
                    NetworkResult(
                        point.label, position, network, (sum(sample.accuracies) / len(own),), sample, sample,
                        own[0].macs, own[0].params, len(own), 0,
                    ),
                )
            )  # fmt: skip
    return grid


def _lacking(rows: Sequence[FinishedTraining], plan: Plan) -> str:
    """Return a line on how many points of STEP 1 have trainings, and in what the recipe of the others differs."""
    there, wanted = len(_grid(rows, plan)), len(points.step_one(plan.baseline, plan.budgets).points)
    others = with_other_recipes(rows, plan)
    return (
        f"STEP 1 has trainings with this recipe for {there} of its {wanted} networks, so its table, the coefficients"
        f" and the figures are not written{f'; {FILE} has {others} (--set)' if others else ''}"
    )


def with_other_recipes(rows: Sequence[FinishedTraining], plan: Plan) -> str:
    """Return how many trainings after the tuning have another recipe and in what it differs; empty if none has."""
    recipes = Counter(row.recipe for row in rows if row.stage != "tune")
    counts: Counter[str] = Counter()
    for text, count in recipes.items():
        own = decode_toml(text, Recipe, FILE)
        differing = [name for name in sorted(FOLLOWED) if getattr(own, name) != getattr(plan.recipe, name)]
        counts[", ".join(f"{name}={getattr(own, name)}" for name in differing)] += count
    return " and ".join(
        f"{count} training{'s' if count > 1 else ''} with {differing}"
        for differing, count in counts.items()
        if differing
    )


def _of(rows: Sequence[FinishedTraining], network: Network, recipe: Recipe) -> list[FinishedTraining]:
    return [row for row in rows if row.key == training_key(network, row.seed, recipe)]


def _tuning(tried: Sequence[FinishedTraining]) -> ReportTable:
    ordered = sorted(tried, key=lambda row: -row.held)
    recipes = [decode_toml(row.recipe, Recipe, FILE) for row in ordered]
    return ReportTable(
        ("optimiser", ">batch", ">learning rate", ">weight decay", "area of crops", ">label smoothing", ">epochs",
         ">held-out top-1, %", ">training loss", "device"),
        tuple(
            (
                type(recipe.optimizer).__name__, str(recipe.batch), f"{recipe.lr:g}", f"{recipe.weight_decay:g}",
                f"{recipe.area[0]:g} to {recipe.area[1]:g}", f"{recipe.label_smoothing:g}", f"{recipe.epochs:g}",
                f"{row.held:.2%}", "diverged" if row.loss is None else f"{row.loss:.3f}", row.device,
            )
            for row, recipe in zip(ordered, recipes, strict=True)
        ),
    )  # fmt: skip


def _step_one(grid: list[tuple[CoefficientPoint, NetworkResult]]) -> tuple[ReportTable, str]:
    ranked = sorted(grid, key=lambda entry: -entry[1].accuracy)
    best = ranked[0]
    rows = []
    for point, result in ranked:
        stages = point.network.stages
        gap = None if result is best[1] else difference(result.sample, best[1].sample)
        made = point.coefficients
        rows.append(
            (
                f"{made.alpha:.3g}", f"{made.beta:.3g}", f"{made.gamma:.3g}", f"{point.network.resolution} px",
                ", ".join(str(stage.repeats) for stage in stages), ", ".join(str(stage.channels) for stage in stages),
                format_count(result.macs), format_count(result.params), percent(interval(result.sample)),
                in_points(gap), str(result.seeds),
            )
        )  # fmt: skip
    level = [entry for entry in ranked[1:] if difference(best[1].sample, entry[1].sample).sign == 0]
    separable = "separable from all others" if not level else f"not separable from {len(level)} of {len(ranked) - 1}"
    verdict = f"The best, {describe(best[0].coefficients)}, is {separable} (95 % confidence)."
    headings = (">alpha", ">beta", ">gamma", ">input", "layers", "channels", ">FLOPs (multiply-adds)", ">parameters",
                ">held-out top-1, %", ">less the best, points", ">seeds")  # fmt: skip
    return ReportTable(headings, tuple(rows)), verdict


def _trials(settings: ScalingStudy, rows: Sequence[FinishedTraining]) -> list[optuna.trial.FrozenTrial]:
    """Return the trainings of Figure 8's networks as the trials of a study, judged on the test images."""
    places, trials = settings.places(), []
    for index, place in enumerate(places):
        for row in _of(rows, place.network, settings.recipe):
            if row.seed >= settings.seeds:
                continue
            outcome = TrialOutcome(
                row.test, row.test_images, row.macs, row.params, row.seconds, diverged=row.loss is None
            )
            point = f"{place.line} {label(place.multipliers)}".strip()
            attributes = {
                "network": place.network.dumps(), "point": point, "seed": row.seed,
                "position": row.seed * len(places) + index, "outcome": msgspec.to_builtins(outcome),
            }  # fmt: skip
            trials.append(
                optuna.trial.create_trial(
                    state=optuna.trial.TrialState.COMPLETE, values=[row.test], user_attrs=attributes
                )
            )
    return sorted(trials, key=lambda trial: trial.user_attrs["position"])


def _write_plot(path: Path, drawn: tuple[bytes, bytes]) -> None:
    for suffix, data in zip((".svg", ".png"), drawn, strict=True):
        write_whole(path.with_suffix(suffix), data)
