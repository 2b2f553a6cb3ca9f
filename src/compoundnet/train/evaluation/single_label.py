"""The report of a model that gives each image exactly one class."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePath

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from compoundnet.base import CompoundNetError
from compoundnet.base.table_files import Columns
from compoundnet.train.counts import Counts, confusion_of
from compoundnet.train.evaluation.calibration import Calibration, calibration_bins, calibration_error
from compoundnet.train.evaluation.evaluation_report import Cells, Mistake, WilsonInterval, wilson

# A confusion matrix with more classes is not printed.
_PRINTED = 10


class ClassScore(msgspec.Struct, frozen=True):
    """The score of one class.

    Attributes:
        label: The label of the class.
        count: The number of its images.
        right: The number of them that are classified correctly.
        precision: Fraction of the images predicted as this class that are of it; None if there are none.
        recall: Fraction of its images that are classified correctly.
        f1: Harmonic mean of precision and recall; 0 if none of its images is classified correctly.
        most_confused: The most frequent class among the wrong predictions; None if all predictions are correct.
        times: The number of these predictions.
    """

    label: str
    count: int
    right: int
    precision: float | None
    recall: float
    f1: float
    most_confused: str | None
    times: int


class ImageOutcomes(msgspec.Struct, frozen=True, eq=False):
    """The outcome of each image, 40 bytes for each, in the order of the split.

    Attributes:
        truth: int64[N], the true class.
        predicted: int64[N], the most probable class.
        rank: int64[N], the place of the true class among all, by probability: 1 if the image is classified correctly.
        probability: float64[N], of the predicted class.
        true_probability: float64[N], of the true class.
    """

    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    rank: NDArray[np.int64]
    probability: NDArray[np.float64]
    true_probability: NDArray[np.float64]


class SingleLabelReport(msgspec.Struct, frozen=True, eq=False):
    """What is measured of a model that gives each image exactly one class.

    Attributes:
        labels: The model's class names.
        counts: Correct predictions and the confusion matrix.
        interval: Wilson's 95 % interval of top-1, for other images of the same kind.
        classes: In the model's order; classes without images are omitted.
        calibration: Of the probabilities.
        images: The outcome of each image.
    """

    labels: tuple[str, ...]
    counts: Counts
    interval: WilsonInterval
    classes: tuple[ClassScore, ...]
    calibration: Calibration
    images: ImageOutcomes

    @property
    def image_columns(self) -> Columns:
        return (
            ("file", PurePath), ("truth", str), ("prediction", str), ("probability", float), ("correct", bool),
            ("true_probability", float), ("true_rank", int),
        )  # fmt: skip

    def summary(self) -> list[str]:
        counts, mean = self.counts, self.means()
        top5 = "" if counts.top5 is None else f", top-5 {counts.top5:.2%}"
        lines = [
            f"top-1 {counts.top1:.2%} ({self.interval}){top5}",
            f"mean over classes: recall {mean['recall']:.2%} (mean per class), precision {mean['precision']:.2%},"
            f" F1 {mean['f1']:.2%}",
            self.calibration.describe("", f"{self.counts.top1:.2%} are right"),
        ]
        absent = len(self.labels) - len(self.classes)
        if absent:
            lines.append(f"{absent:,} of the model's {len(self.labels):,} classes have no images here")
        return lines

    def means(self) -> dict[str, float]:
        """Return recall, precision and F1 as means over the classes with images; a precision of None counts as 0."""
        return {
            name: sum(getattr(score, name) or 0.0 for score in self.classes) / len(self.classes)
            for name in ("recall", "precision", "f1")
        }

    def tables(self) -> list[Cells]:
        rows = tuple(
            (
                score.label,
                f"{score.count:,}",
                f"{score.right:,}",
                "" if score.precision is None else f"{score.precision:.1%}",
                f"{score.recall:.1%}",
                f"{score.f1:.1%}",
                f"{score.most_confused} ({score.times:,})" if score.most_confused else "",
            )
            for score in self.classes
        )
        columns = ("class", ">images", ">correct", ">precision", ">recall", ">F1", "most often confused with")
        found = [Cells(columns, rows)]
        present = self.present
        if 2 <= len(present) <= _PRINTED:
            names = [self.labels[number] for number in present]
            found.append(
                Cells(
                    ("true, then predicted", *(f">{name}" for name in names)),
                    tuple(
                        (name, *(f"{count:,}" for count in row)) for name, row in zip(names, self.matrix, strict=True)
                    ),
                )
            )
        return found

    @property
    def present(self) -> NDArray[np.int64]:
        """The classes with images or predictions, in the model's order: those of a confusion matrix."""
        return np.flatnonzero(self.counts.confusion.sum(1) + self.counts.confusion.sum(0))

    @property
    def matrix(self) -> NDArray[np.int64]:
        """int64[true class, predicted class] of the classes that are `present`."""
        found: NDArray[np.int64] = self.counts.confusion[np.ix_(self.present, self.present)].toarray()
        return found

    def fields(self) -> dict[str, object]:
        present = self.present
        found = self.counts.confusion[np.ix_(present, present)].sorted_indices().tocoo()
        cells = np.stack([found.row, found.col, found.data], 1)
        return {
            "top1_interval": [self.interval.low, self.interval.high],
            **{f"mean_{name}": value for name, value in self.means().items() if name != "recall"},
            "classes": [msgspec.to_builtins(score) for score in self.classes],
            "calibration": msgspec.to_builtins(self.calibration),
            # Of 1,000 classes the matrix has a million cells, most of them empty.
            "confusion": {"labels": [self.labels[number] for number in present], "cells": cells.tolist()},
        }

    def image_rows(self, name: Callable[[int], str]) -> Iterator[Sequence[object]]:
        images = self.images
        for number, (truth, predicted) in enumerate(zip(images.truth.tolist(), images.predicted.tolist(), strict=True)):
            yield (
                name(number), self.labels[truth], self.labels[predicted], float(images.probability[number]),
                truth == predicted, float(images.true_probability[number]), int(images.rank[number]),
            )  # fmt: skip

    def mistakes(self, most: int) -> list[Mistake]:
        """Return the wrong predictions of the highest probability."""
        images = self.images
        wrong = np.flatnonzero(images.truth != images.predicted)
        worst = wrong[np.argsort(-images.probability[wrong], kind="stable")[:most]]
        return [
            Mistake(
                int(number), (("predicted", int(images.predicted[number])), ("true class", int(images.truth[number])))
            )
            for number in worst
        ]


# The columns of `image_values`, from which a report is computed.
_COLUMNS = ("truth", "predicted", "rank", "probability", "true_probability", "loss", "probability_1", "loss_1")


def image_values(logits: Tensor, truth: Tensor, temperature: float) -> Tensor:
    """Return what a report needs of each image.

    Args:
        logits: float[N, classes].
        truth: int64[N], the true classes.
        temperature: The model's.

    Returns:
        float64[N, 8], the columns: true and predicted class, rank of the true class, probability of the predicted and
        of the true class, cross-entropy; and at temperature 1 probability and cross-entropy.
    """
    values = logits.double()
    at, plain = (torch.log_softmax(values / one, 1) for one in (temperature, 1.0))
    predicted, own = values.argmax(1, keepdim=True), truth[:, None]
    level = values.gather(1, own)
    numbers = torch.arange(values.shape[1], device=values.device)
    # Of equal logits the first class comes first, as in argmax.
    rank = 1 + (values > level).sum(1, keepdim=True) + ((values == level) & (numbers < own)).sum(1, keepdim=True)
    columns = [
        own, predicted, rank, at.gather(1, predicted).exp(), at.gather(1, own).exp(), -at.gather(1, own),
        plain.gather(1, predicted).exp(), -plain.gather(1, own),
    ]  # fmt: skip
    return torch.cat([column.double() for column in columns], 1)


COLUMNS = len(_COLUMNS)


def single_label_report(values: NDArray[np.float64], labels: tuple[str, ...], temperature: float) -> SingleLabelReport:
    """Return the report of images.

    Args:
        values: float64[N, 8] of `image_values`.
        labels: The model's class names.
        temperature: The model's.

    Raises:
        CompoundNetError: there are no images.
    """
    if not len(values):
        raise CompoundNetError("there are no images to evaluate")
    column = dict(zip(_COLUMNS, values.T, strict=True))
    truth, predicted, rank = (column[name].astype(np.int64) for name in ("truth", "predicted", "rank"))
    confusion = confusion_of(truth, predicted, len(labels))
    counts = Counts(confusion, int((rank <= Counts.TOP).sum()), float(column["loss"].mean()))
    right = truth == predicted
    bins = calibration_bins(column["probability"], right)
    calibration = Calibration(
        temperature=temperature,
        ece=calibration_error(bins),
        ece_before=calibration_error(calibration_bins(column["probability_1"], right)),
        loss=counts.loss,
        loss_before=float(column["loss_1"].mean()),
        confidence=float(column["probability"].mean()),
        bins=bins,
    )
    outcomes = ImageOutcomes(truth, predicted, rank, column["probability"], column["true_probability"])
    return SingleLabelReport(
        labels, counts, wilson(int(right.sum()), len(right)), class_scores(confusion, labels), calibration, outcomes
    )


def class_scores(confusion: sparse.csr_array, labels: tuple[str, ...]) -> tuple[ClassScore, ...]:
    """Return the scores of the classes with images, from int64[true class, predicted class]."""
    scores = []
    counts, predicted, rights = confusion.sum(1), confusion.sum(0), confusion.diagonal()
    for number, (start, end) in enumerate(itertools.pairwise(confusion.indptr)):
        if start < end:
            columns = confusion.indices[start:end]
            wrong = np.where(columns == number, 0, confusion.data[start:end])
            worst = int(wrong.argmax())
            right, count = int(rights[number]), int(counts[number])
            scores.append(
                ClassScore(
                    label=labels[number],
                    count=count,
                    right=right,
                    precision=right / int(predicted[number]) if predicted[number] else None,
                    recall=right / count,
                    f1=2 * right / (count + int(predicted[number])),
                    most_confused=labels[columns[worst]] if wrong[worst] else None,
                    times=int(wrong[worst]),
                )
            )
    return tuple(scores)
