"""The model folder that a run writes: weights, preprocessing, postprocessing, and the README for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from compoundnet.models import Postprocess, write_folder
from compoundnet.train.evaluation.calibration import TemperatureFit
from compoundnet.train.identity import described
from compoundnet.train.logistic import Probe
from compoundnet.train.logs import as_csv
from compoundnet.train.results import LabelResult, Result, write_result
from compoundnet.train.several_labels import ThresholdFit
from compoundnet.train.status import Epoch
from compoundnet.train.task import Task
from compoundnet.train.training_plots import draw_curves

if TYPE_CHECKING:
    from torch import Tensor


class Decided(NamedTuple):
    """What the held-out images decide after training."""

    calibration: TemperatureFit | None
    thresholds: ThresholdFit | None


def write_model(
    task: Task,
    output: Path,
    weights: dict[str, Tensor],
    history: list[Epoch],
    result: Result | None,
    decided: Decided | None = None,
    probe: Probe | None = None,
    refit: tuple[Epoch, ...] | None = None,
    *,
    replace: bool,
) -> None:
    """Write the model folder of a finished run; of a probe there is no log and are no curves."""
    calibration, thresholds = decided or Decided(None, None)
    extras = {"recipe.toml": task.recipe.dumps().encode()}
    if history:
        extras["log.csv"] = as_csv(history)
        extras["curves.png"] = draw_curves(history, f"{task.network.name} on {task.dataset}")
    if result is not None:
        extras["result.json"] = write_result(result)
    made = probe or history[-1]
    readme = _readme(task, output.name, made, result, Decided(calibration, thresholds), refit)
    write_folder(
        output,
        task.network,
        weights,
        task.preprocess,
        labels=task.train.classes,
        postprocess=make_postprocess(task, calibration, thresholds),
        readme=readme,
        replace=replace,
        extras=extras,
    )


def make_postprocess(task: Task, calibration: TemperatureFit | None, thresholds: ThresholdFit | None) -> Postprocess:
    """Return how the logits of a task's network become probabilities."""
    temperature = calibration.temperature if calibration is not None else 1.0
    if not task.multilabel:
        return Postprocess(temperature)
    return Postprocess(temperature, "sigmoid", thresholds.thresholds if thresholds is not None else ())


def _readme(
    task: Task,
    name: str,
    made: Probe | Epoch,
    result: Result | None,
    decided: Decided,
    refit: tuple[Epoch, ...] | None,
) -> str:
    recipe, source = task.recipe, task.start.name if task.start is not None else "scratch"
    if isinstance(made, Probe):
        how = (
            f"with {source} as it is, and a classifier fitted by compoundnet to its features of {task.dataset}"
            f" ({len(task.train):,} images, recipe `{recipe.name}`, seed {recipe.seed}): {made}. The whole recipe is in"
            " recipe.toml."
        )
    else:
        how = (
            f"trained by compoundnet from {source} on {task.dataset} ({len(task.train):,} images, recipe"
            f" `{recipe.name}`, seed {recipe.seed}, {made.step:,} steps of up to {recipe.batch}). The whole recipe is"
            " in recipe.toml, the log in log.csv and curves.png."
        )
    lines = [
        f"# {name}",
        "",
        f"{task.network.name} with {task.network.num_classes} {'labels' if task.multilabel else 'classes'}, input"
        f" {task.preprocess.size} px, {how}",
        "",
    ]
    if task.teacher is not None:
        lines += [f"Besides the labels it learned from {task.teacher.name} (distillation; see recipe.toml).", ""]
    if refit is not None and task.whole is not None:
        lines += [
            f"When the held-out images had decided, it was trained once more from the start, for {refit[-1].step:,}"
            f" steps on all {len(task.whole):,} images; the log is that of the first training.",
            "",
        ]
    own = {"loss": task.loss, "augmentation": task.augment and task.augment.transform}
    if any(value is not None for value in own.values()):
        named = [f"{name} `{described(value)}`" for name, value in own.items() if value is not None]
        lines += [f"In place of the recipe's it used the {' and the '.join(named)}.", ""]
    if task.multilabel:
        lines += ["An image may have several labels, or none: postprocess.toml holds the threshold of each label.", ""]
    if isinstance(result, LabelResult):
        lines += [
            f"Measured once, at the end, on {result.count:,} test images: mAP {result.mean_average_precision:.2%}, F1"
            f" as mean over labels {result.mean_f1:.2%}, all labels of an image right {result.top1:.2%} (result.json).",
            "",
        ]
    elif result is not None:
        lines += [
            f"Measured once, at the end, on {result.count:,} test images: top-1 {result.top1:.2%}, mean per class"
            f" {result.mean_per_class:.2%}"
            + (f", top-5 {result.top5:.2%}" if result.top5 is not None else "")
            + " (result.json).",
            "",
        ]
    for fit in filter(None, decided):
        text = str(fit)
        lines += [f"{text[0].upper()}{text[1:]}.", ""]
    if task.start is not None:
        lines += [f"The licence of the weights that training started from ({source}) applies to these too.", ""]
    return "\n".join(lines)
