"""The probe of a task: a classifier fitted to the features of the training images, and its score on the test images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from compoundnet.base import CompoundNetError, Notify, Progress
from compoundnet.base.machine import default_threads
from compoundnet.data import Split
from compoundnet.models import Postprocess
from compoundnet.runtime.embedding import features
from compoundnet.train.counts import Counts, counts_of_logits
from compoundnet.train.logistic import STRENGTHS, Probe, fit_probe
from compoundnet.train.processes import on_first
from compoundnet.train.several_labels import LabelPredictions, label_predictions
from compoundnet.train.status import Watcher
from compoundnet.train.task import Task

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from compoundnet.nn import ConvNet


def probe_task(task: Task, fabric: Fabric, watcher: Watcher, notify: Notify) -> Probe:
    """Fit the probe of a task on the first process; all processes call it together and get the same.

    Args:
        task: The task.
        fabric: The processes.
        watcher: Receives the events.
        notify: Called with a line for each training image that cannot be read, or is truncated.

    Raises:
        CompoundNetError: there are more unreadable images than the recipe tolerates.
    """
    found: list[Probe] = []

    def fit() -> None:
        watcher.evaluation_started("the features of the training images", len(task.train))
        vectors = _features(task, task.train, fabric, watcher.evaluated, notify)
        watcher.evaluation_ended()
        readable = np.isfinite(vectors).all(axis=1)
        balance = task.recipe.balance
        assert balance != "auto"  # `choose_balance` has replaced it
        watcher.evaluation_started("strengths of the probe", len(STRENGTHS))
        found.append(
            fit_probe(
                vectors[readable], task.train.labels[readable], task.train.classes,
                balance=balance, seed=task.recipe.seed, progress=watcher.evaluated,
            )
        )  # fmt: skip
        watcher.evaluation_ended()
        watcher.notify(str(found[0]))

    on_first(fit, fabric)
    shared = fabric.broadcast(found[0] if found else None)
    assert shared is not None
    return shared


def set_classifier(net: ConvNet, probe: Probe) -> None:
    """Make a probe the classifier of a network."""
    net.get_parameter("classifier.weight").data.copy_(torch.from_numpy(probe.weight))
    net.get_parameter("classifier.bias").data.copy_(torch.from_numpy(probe.bias))


def test_probe(
    task: Task, probe: Probe, fabric: Fabric, watcher: Watcher, notify: Notify, postprocess: Postprocess
) -> Counts | LabelPredictions:
    """Predict the test images of a task by their features; several labels an image with the postprocessing.

    Raises:
        CompoundNetError: there are more unreadable images than the recipe tolerates, or only such.
    """
    assert task.test is not None
    watcher.evaluation_started("the test images", len(task.test))
    try:
        vectors = _features(task, task.test, fabric, watcher.evaluated, notify)
    finally:
        watcher.evaluation_ended()
    readable = np.isfinite(vectors).all(axis=1)
    if not readable.any():
        raise CompoundNetError(
            "no test image can be read. `compoundnet data check` lists every such image; repair them"
        )
    logits, labels = probe.logits(vectors[readable]), task.test.labels[readable]
    if task.multilabel:
        return label_predictions(logits.astype(np.float64), labels, postprocess)
    return counts_of_logits(logits, labels.astype(np.int64))


def _features(task: Task, split: Split, fabric: Fabric, progress: Progress, notify: Notify) -> NDArray[np.float32]:
    assert task.start is not None
    on_gpu = fabric.device.type == "cuda"
    return features(
        task.start,
        split,
        preprocess=task.preprocess,
        threads=default_threads(),
        device=str(fabric.device) if on_gpu else "cpu",
        max_bad=task.recipe.max_bad,
        progress=progress,
        notify=notify,
    )
