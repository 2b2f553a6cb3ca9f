"""Evaluation of a model on a data set."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from compoundnet.base import CompoundNetError, Notify, Progress, ignore, shortened
from compoundnet.base.table_files import csv_file
from compoundnet.data import Dataset, Split
from compoundnet.data.lookup import open_for_evaluation
from compoundnet.data.model_classes import check_labelled, labels_of, match_classes
from compoundnet.models import Model, open_model
from compoundnet.train.counts import predict_readable
from compoundnet.train.evaluation.multi_label import MultiLabelReport, multi_label_report
from compoundnet.train.evaluation.single_label import COLUMNS, SingleLabelReport, image_values, single_label_report
from compoundnet.train.hardware import Hardware, launch
from compoundnet.train.model_outputs import logits_function, open_outputs
from compoundnet.train.results import Result, make_result, result_fields, write_result
from compoundnet.train.several_labels import label_predictions
from compoundnet.train.training_plots import draw_confusion

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_log = logging.getLogger(__name__)


class Evaluation(msgspec.Struct, frozen=True, eq=False):
    """The result of `evaluate`.

    Attributes:
        result: The accuracies.
        split: The images that were evaluated.
        report: The figures: a `SingleLabelReport` if each image has exactly one class, a `MultiLabelReport` if it may
            have several labels.
        backend: The backend that ran the model.
        precision: The precision in which it ran.
    """

    result: Result
    split: Split
    report: SingleLabelReport | MultiLabelReport
    backend: str
    precision: str

    @property
    def confusion(self) -> NDArray[np.int64]:
        """int64[true class, predicted class], in the model's order. Raises CompoundNetError for several labels."""
        found: NDArray[np.int64] = self._single.counts.confusion.toarray()
        return found

    @property
    def _single(self) -> SingleLabelReport:
        if not isinstance(self.report, SingleLabelReport):
            raise CompoundNetError("a confusion matrix is of models that give an image one class, not several labels")
        return self.report

    def summary(self) -> list[str]:
        """Return the figures of all images together, as lines for people."""
        first, *rest = self.report.summary()
        result = self.result
        return [f"{result.model} on {result.dataset} ({self.split.name}, {result.count:,} images): {first}", *rest]

    def fields(self) -> dict[str, object]:
        """Return the result's fields, the split and the report's figures as plain values for a JSON document."""
        ran = {"split": self.split.name, "backend": self.backend, "precision": self.precision}
        return result_fields(self.result) | ran | self.report.fields()

    def result_file(self, by: str = "") -> bytes:
        """Return the JSON file that `compoundnet reproduce --results` reads; `by` names the person who measured."""
        more = {"split": self.split.name} | self.report.fields()
        more.pop("confusion", None)  # it may have as many cells as there are images
        return write_result(msgspec.structs.replace(self.result, by=by), **more)

    def write_images(self, path: str | os.PathLike[str]) -> None:
        """Write a CSV file with a row for each image: file, true class, prediction, probability and more."""
        with csv_file(path, self.report.image_columns) as write:
            for row in self.report.image_rows(self.split.image_name):
                write(row)

    def write_confusion(self, path: str | os.PathLike[str]) -> None:
        """Write the confusion matrix as a CSV file: a row for each true class, a column for each predicted one."""
        report = self._single
        with csv_file(path, [("true class", str), *((report.labels[place], int) for place in report.present)]) as write:
            for place, row in zip(report.present, report.matrix, strict=True):
                write([report.labels[place], *row.tolist()])

    def draw_confusion(self) -> bytes:
        """Draw the confusion matrix as PNG; each row is normalised to fractions of its true class."""
        report, result = self._single, self.result
        labels = tuple(report.labels[place] for place in report.present)
        return draw_confusion(report.matrix, labels, f"{result.network} on {result.dataset}")


def evaluate(
    model: str | os.PathLike[str] | Model,
    data: str | os.PathLike[str] | Dataset,
    *,
    split: str | None = None,
    fabric: Fabric | None = None,
    backend: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    batch: int = 64,
    workers: int | None = None,
    progress: Progress = ignore,
    notify: Notify = ignore,
) -> Evaluation:
    """Evaluate a model on every image of a split. All processes of a run call it
    together, share the images and return the same result.

    Args:
        model: A name of `compoundnet models list`, a model folder, an exported file, or one of them opened.
        data: A string as for `open_dataset`; a list is read with as many labels an image as the model predicts. Or an
            opened data set.
        split: The name of the split; by default the test split, or val if there is no test split. "all": an undivided
            folder as a whole.
        fabric: The processes, from `launch`; this one by default.
        backend: What runs the network, see `session`; ONNX Runtime on a CPU and torch on a GPU by default.
        precision: The precision, see `session`; auto compares precisions with float32 on images of the split.
        threads: Of the backend on each process; by default the cores are divided among the processes.
        batch: Images at a time on each process.
        workers: Decoding processes for each process; by default none for fewer than 100 images.
        progress: Called with the number of images that this process has just finished.
        notify: Called with one line if the classes are matched without their names, and with the choice of auto.

    Raises:
        CompoundNetError: the data's classes are not among the model's, or not published; or the images have several
            labels, and the model predicts one class.
    """
    opened = open_model(model)
    dataset = data if isinstance(data, Dataset) else open_for_evaluation(data, split, labels=labels_of(opened))
    dataset, found_range = dataset.with_range(opened.preprocess.range)
    if found_range is not None:
        _log.warning(found_range)
    images = dataset.split(split or dataset.evaluation)
    check_labelled(opened, dataset, images)
    mapping = match_classes(opened, images)
    if opened.labels is None:
        notify(
            f"{opened.name} has no class names: the classes {shortened(images.classes, 10)} are taken as its numbers"
        )
    fabric = fabric or launch(Hardware())
    run = open_outputs(opened, fabric, backend, threads, batch, precision, images)
    if run.choice is not None:
        notify(run.choice.text())
    if opened.postprocess.multilabel:
        logits = predict_readable(
            logits_function(run), lambda found, *_: found, images,
            opened.preprocess, fabric, columns=opened.network.num_classes, batch=batch, workers=workers,
            progress=progress,
        ).values  # fmt: skip
        predictions = label_predictions(logits[:, mapping], images.with_several_labels().labels, opened.postprocess)
        labelled = multi_label_report(predictions, _names(opened, images, mapping), mapping, opened.postprocess)
        scores = labelled.result(opened.network.name, dataset.name, opened.name)
        return Evaluation(scores, images, labelled, run.backend, run.precision)
    place = torch.from_numpy(mapping).to(fabric.device)
    temperature = opened.postprocess.temperature
    values = predict_readable(
        logits_function(run),
        lambda logits, labels, _: image_values(logits, place[labels], temperature), images, opened.preprocess, fabric,
        columns=COLUMNS, batch=batch, workers=workers, progress=progress,
    ).values  # fmt: skip
    report = single_label_report(values, _names(opened, images, mapping), temperature)
    accuracies = make_result(opened.network.name, dataset.name, report.counts, opened.name)
    return Evaluation(accuracies, images, report, run.backend, run.precision)


def _names(model: Model, split: Split, mapping: NDArray[np.int64]) -> tuple[str, ...]:
    """The names of the model's classes: its labels, or those of the images that match its numbers."""
    if model.labels is not None:
        return model.labels
    names = [str(number) for number in range(model.network.num_classes)]
    for number, name in zip(mapping.tolist(), split.classes, strict=True):
        names[number] = name
    return tuple(names)
