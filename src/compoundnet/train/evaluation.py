"""Evaluation of a model on a data set: accuracy overall and class by class."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from compoundnet.base import CompoundNetError, Progress, did_you_mean, ignore
from compoundnet.base.machine import cores
from compoundnet.data import Dataset, Split
from compoundnet.data.dataset import UNKNOWN
from compoundnet.data.lookup import open_for_evaluation
from compoundnet.models import Model, open_model
from compoundnet.runtime.backends.session import backends_of
from compoundnet.runtime.sessions import session
from compoundnet.train.counts import Counts, count_predictions
from compoundnet.train.hardware import Hardware, launch
from compoundnet.train.results import Result, make_result, write_result
from compoundnet.train.training_plots import draw_confusion

if TYPE_CHECKING:
    from lightning.fabric import Fabric
    from torch import Tensor


class ClassScore(msgspec.Struct, frozen=True):
    """The score of one class.

    Attributes:
        label: The label of the class.
        count: The number of its images.
        right: The number of them that are classified correctly.
        most_confused: The most frequent class among the wrong predictions; None if all predictions are correct.
        times: The number of these predictions.
    """

    label: str
    count: int
    right: int
    most_confused: str | None
    times: int


class Evaluation(msgspec.Struct, frozen=True, eq=False):
    """The result of `evaluate`.

    Attributes:
        result: the accuracies.
        split: the name of the split that was evaluated.
        classes: in the model's order; classes without images are omitted.
        confusion: int64[true class, predicted class], in the model's order.
        labels: the model's class names.
    """

    result: Result
    split: str
    classes: tuple[ClassScore, ...]
    confusion: NDArray[np.int64]
    labels: tuple[str, ...]

    def fields(self) -> dict[str, object]:
        """Return the result's fields, the split and the classes' scores as plain values for a JSON document."""
        fields: dict[str, object] = msgspec.to_builtins(self.result)
        scores = [msgspec.to_builtins(score) for score in self.classes]
        return fields | {"split": self.split, "classes": scores}

    def result_file(self, by: str = "") -> bytes:
        """Return the JSON file that `compoundnet reproduce --results` reads; `by` names the person who measured."""
        fields = self.fields()
        return write_result(
            msgspec.structs.replace(self.result, by=by), split=fields["split"], classes=fields["classes"]
        )

    def draw_confusion(self) -> bytes:
        """Draw the confusion matrix as PNG; each row is normalised to fractions of its true class."""
        return draw_confusion(self.confusion, self.labels, f"{self.result.network} on {self.result.dataset}")


def evaluate(
    model: str | os.PathLike[str] | Model,
    data: str | os.PathLike[str] | Dataset,
    *,
    split: str | None = None,
    fabric: Fabric | None = None,
    backend: str | None = None,
    threads: int | None = None,
    batch: int = 64,
    workers: int | None = None,
    progress: Progress = ignore,
) -> Evaluation:
    """Evaluate a model on every image of a split. All processes of a run call it
    together, share the images and return the same result.

    Args:
        model: a name of `compoundnet models list`, a model folder, an exported file, or one of them opened.
        data: a string as for `open_dataset`, or an opened data set.
        split: The name of the split; by default the test split, or val if there is no test split. "all": an undivided
            folder as a whole.
        fabric: the processes, from `launch`; this one by default.
        backend: what runs the network, see `session`; ONNX Runtime on a CPU and torch on a GPU by default.
        threads: of the backend on each process; by default the cores are divided among the processes.
        batch: images at a time on each process.
        workers: decoding processes for each process; by default none for fewer than 100 images.
        progress: called with the number of images that this process has just finished.

    Raises:
        CompoundNetError: the data's classes are not among the model's, or the images' classes are not published.
    """
    opened = open_model(model)
    dataset = data if isinstance(data, Dataset) else open_for_evaluation(data, split)
    images = dataset.split(split or dataset.evaluation)
    if (images.labels == UNKNOWN).any():
        raise CompoundNetError(
            f"the classes of {dataset.name}'s {images.name} images are not published, so accuracy cannot be computed;"
            " write the file that the ImageNet server scores with --submission FILE"
        )
    mapping = match_classes(opened, images)
    fabric = fabric or launch(Hardware())
    counts = count_predictions(
        logits_function(opened, fabric, backend, threads, batch), opened.network.num_classes, images,
        opened.preprocess, fabric, batch=batch, workers=workers, labels=mapping, progress=progress,
    )  # fmt: skip
    labels = opened.labels or images.classes
    result = make_result(opened.network.name, dataset.name, counts, opened.name)
    return Evaluation(result, images.name, _scores(counts, labels), counts.confusion, labels)


def logits_function(
    model: Model, fabric: Fabric, backend: str | None, threads: int | None, batch: int
) -> Callable[[Tensor], Tensor]:
    """Return the model as a function for `count_predictions`, on the device of this process."""
    # Backends other than torch run on the CPU, even if there is a GPU.
    on_torch = any(able.devices and backend in (None, able.name) for able in backends_of(model))
    run = session(
        model,
        backend=backend,
        # Launchers of several processes divide the cores among them.
        threads=threads or min(torch.get_num_threads(), cores()),
        batch=batch,
        device=str(fabric.device) if on_torch else "cpu",
    )
    return lambda images: torch.from_numpy(run(images.numpy()))


def match_classes(model: Model, split: Split) -> NDArray[np.int64]:
    """Return int64[split's classes]: the model's number of each class, matched by name.

    A model without class names is matched by position.

    Raises:
        CompoundNetError: the classes cannot be matched.
    """
    if model.labels is None:
        if len(split.classes) != model.network.num_classes:
            raise CompoundNetError(
                f"{model.name} has {model.network.num_classes} classes without names, and the images"
                f" {len(split.classes)} classes, so they cannot be matched"
            )
        return np.arange(len(split.classes))
    numbers = {label: number for number, label in enumerate(model.labels)}
    unknown = [name for name in split.classes if name not in numbers]
    if unknown:
        raise CompoundNetError(
            f"{model.name} does not know {len(unknown)} of the {len(split.classes)} classes of these images, such as"
            f" {unknown[0]!r}{did_you_mean(unknown[0], numbers)}. Rename the class folders, or train on these images"
            " first"
        )
    return np.array([numbers[name] for name in split.classes], np.int64)


def _scores(counts: Counts, labels: tuple[str, ...]) -> tuple[ClassScore, ...]:
    scores = []
    for number, row in enumerate(counts.confusion):
        if row.sum():
            wrong = row.copy()
            wrong[number] = 0
            worst = int(wrong.argmax())
            confused = labels[worst] if wrong[worst] else None
            scores.append(ClassScore(labels[number], int(row.sum()), int(row[number]), confused, int(wrong[worst])))
    return tuple(scores)
