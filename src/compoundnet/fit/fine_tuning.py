"""Fine-tuning of the answer's network, and its comparison with the probe on held-out training images."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from compoundnet.base import Notify
from compoundnet.base.units import format_duration
from compoundnet.data import Dataset, Split
from compoundnet.fit.candidates import Candidate
from compoundnet.models import ModelFolder, read_folder
from compoundnet.runtime import features
from compoundnet.train import (
    SingleLabelReport,
    Task,
    Watcher,
    evaluate,
    find_recipe,
    fit_probe,
    plan_task,
    train,
)
from compoundnet.train.run import run_folder

# The fraction of the training images on which the fine-tuned network and the probe are compared.
_HELD_OUT = 0.2
# The probe stays only if it is better with this confidence: fine-tuning is better on average.
_CONFIDENCE = 0.95


class TooLongError(Exception):
    """The estimated time of a training exceeds the time that is left."""


class FineTuned(msgspec.Struct, frozen=True):
    """A fine-tuned network beside the probe of the same candidate.

    Attributes:
        model: Its model folder.
        accuracy: Fraction of the held-out training images that it classifies correctly.
        probe_accuracy: The same of a probe that is fitted to the other training images.
        images: The number of held-out images.
        better: Whether it is taken: unless the probe is better with 95 % confidence (McNemar's exact test).
    """

    model: ModelFolder
    accuracy: float
    probe_accuracy: float
    images: int
    better: bool

    def __str__(self) -> str:
        taken = "" if self.better else ", so the probe stays"
        return (
            f"fine-tuned: {self.accuracy:.1%} of {self.images:,} held-out training images right, the probe"
            f" {self.probe_accuracy:.1%}{taken}"
        )


class _Bounded(Watcher):
    """Ends a training before its first step if it would take longer than there is time for."""

    def __init__(self, seconds: float, notify: Notify) -> None:
        self._until, self._notify = time.monotonic() + seconds, notify

    def planned(self, summary: object) -> None:
        seconds = getattr(summary, "seconds", None)
        needed, left = (0.0 if seconds is None else seconds.total), self._until - time.monotonic()
        if needed > left:
            raise TooLongError(
                f"fine-tuning would take about {format_duration(needed)}, and {format_duration(max(0.0, left))} are"
                " left of --time"
            )
        self._notify(f"fine-tuning: about {format_duration(needed)}")

    def notify(self, text: str) -> None:
        self._notify(text)


def fine_tune(
    candidate: Candidate, dataset: Dataset, model: ModelFolder, folder: Path, seconds: float, notify: Notify
) -> FineTuned:
    """Fine-tune a candidate, or go on with an interrupted training of it, and compare it with its probe.

    Args:
        candidate: The candidate.
        dataset: The data, with one class an image; only training images are used.
        model: The candidate's model, opened.
        folder: The folder for the training.
        seconds: The time that there is.
        notify: Called with what training has to say.

    Raises:
        TooLongError: It would take longer.
        InterruptedRunError: The process was asked to stop; the same call goes on.
    """
    recipe = find_recipe("finetune").replace(resolution=candidate.resolution, minival=_HELD_OUT)
    task = msgspec.structs.replace(plan_task(recipe, dataset, start=model), test=None)
    output = folder / f"trained-{hashlib.sha256(msgspec.json.encode(candidate)).hexdigest()[:8]}"
    if not output.exists():
        train(task, output, resume=run_folder(output).exists(), watcher=_Bounded(seconds, notify), loggers=[])
    trained = read_folder(output)
    assert task.held is not None
    tuned, probed = _right_by_network(trained, task.held), _right_by_probe(task, task.held)
    only_probe, only_tuned = int((probed & ~tuned).sum()), int((tuned & ~probed).sum())
    better = only_tuned >= only_probe or (stats.binomtest(only_probe, only_probe + only_tuned).pvalue > 1 - _CONFIDENCE)
    return FineTuned(trained, float(tuned.mean()), float(probed.mean()), len(task.held), bool(better))


def _right_by_network(model: ModelFolder, held: Split) -> NDArray[np.bool_]:
    report = evaluate(model, Dataset("held-out training images", {held.name: held}), split=held.name).report
    assert isinstance(report, SingleLabelReport)
    return np.asarray(report.images.predicted == report.images.truth)


def _right_by_probe(task: Task, held: Split) -> NDArray[np.bool_]:
    assert task.start is not None and task.recipe.balance != "auto"
    rows, others = (
        features(task.start, split, preprocess=task.preprocess, max_bad=task.recipe.max_bad)
        for split in (task.train, held)
    )
    readable = np.isfinite(rows).all(axis=1)
    probe = fit_probe(rows[readable], task.train.labels[readable], task.train.classes, balance=task.recipe.balance)
    return np.asarray(probe.logits(others).argmax(axis=1) == held.labels)
