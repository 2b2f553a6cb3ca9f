"""The report of a model that gives each image any number of labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePath

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import special

from compoundnet import __version__
from compoundnet.base import CompoundNetError
from compoundnet.base.table_files import Columns
from compoundnet.models import Postprocess
from compoundnet.train.evaluation.calibration import Calibration, calibration_bins, calibration_error
from compoundnet.train.evaluation.evaluation_report import Cells, Mistake, WilsonInterval, wilson
from compoundnet.train.results import LabelResult, now
from compoundnet.train.several_labels import LabelPredictions, LabelScore, label_predictions, label_scores


class MultiLabelReport(msgspec.Struct, frozen=True, eq=False):
    """What is measured of a model that gives each image any number of labels.

    Labels that the data set does not know are left out: of its images it is not known whether they have them.

    Attributes:
        labels: The model's labels.
        evaluated: int64[M], the numbers of the labels that the data set knows.
        predictions: Of the evaluated labels.
        scores: Of the evaluated labels.
        calibration: Of the probabilities of all evaluated labels, whether an image has them or not.
    """

    labels: tuple[str, ...]
    evaluated: NDArray[np.int64]
    predictions: LabelPredictions
    scores: tuple[LabelScore, ...]
    calibration: Calibration

    @property
    def predicted(self) -> NDArray[np.bool_]:
        """bool[N, M]: the evaluated labels that each image is predicted to have."""
        return self.predictions.probabilities >= np.array([score.threshold for score in self.scores])

    @property
    def all_right(self) -> int:
        """The number of images of which every evaluated label is predicted correctly."""
        return int((self.predicted == self.predictions.truth).all(axis=1).sum())

    @property
    def interval(self) -> WilsonInterval:
        """Wilson's 95 % interval of the fraction of images with all labels right."""
        return wilson(self.all_right, self.predictions.count)

    def means(self) -> dict[str, float]:
        """Return precision, recall and F1 as means over the labels that an image has; a precision of None counts as
        0."""
        present = [score for score in self.scores if score.count]
        return {
            name: sum(getattr(score, name) or 0.0 for score in present) / max(1, len(present))
            for name in ("precision", "recall", "f1")
        }

    @property
    def micro_f1(self) -> float:
        """F1 of all labels of all images counted together; 0 if no label is predicted correctly."""
        right = sum(score.right for score in self.scores)
        return 2 * right / max(1, sum(score.count + score.predicted for score in self.scores))

    def result(self, network: str, dataset: str, model: str) -> LabelResult:
        """Return the figures of all images together as a result, dated now."""
        return LabelResult(
            network, dataset, self.all_right / self.predictions.count, self.predictions.count,
            model=model, measured_at=now(), version=__version__,
            mean_average_precision=self.predictions.mean_average_precision, mean_f1=self.means()["f1"],
        )  # fmt: skip

    @property
    def image_columns(self) -> Columns:
        names = [self.labels[number] for number in self.evaluated]
        return (
            ("file", PurePath), ("truth", str), ("prediction", str), ("correct", bool),
            *((f"probability {name}", float) for name in names),
        )  # fmt: skip

    def summary(self) -> list[str]:
        means, count = self.means(), self.predictions.count
        lines = [
            f"mAP {self.predictions.mean_average_precision:.2%}, all labels of an image right"
            f" {self.all_right / count:.2%} ({self.interval})",
            f"mean over labels: precision {means['precision']:.2%}, recall {means['recall']:.2%}, F1 {means['f1']:.2%};"
            f" all labels together: F1 {self.micro_f1:.2%}",
            self.calibration.describe(" of a label", f"{self.predictions.truth.mean():.2%} of the images have it"),
        ]
        absent = sum(not score.count for score in self.scores)
        if absent:
            lines.append(f"{absent:,} of {len(self.scores):,} labels are on no image here, and not part of the means")
        unknown = len(self.labels) - len(self.evaluated)
        if unknown:
            lines.append(
                f"{unknown:,} of the model's {len(self.labels):,} labels are unknown to the data set: left out"
            )
        return lines

    def tables(self) -> list[Cells]:
        def share(value: float | None) -> str:
            return "" if value is None else f"{value:.1%}"

        rows = tuple(
            (
                score.label,
                f"{score.count:,}",
                f"{score.predicted:,}",
                f"{score.right:,}",
                share(score.average_precision),
                share(score.precision),
                share(score.recall),
                share(score.f1),
                f"{score.threshold:.1%}",
            )
            for score in self.scores
        )
        columns = (
            "label", ">images", ">predicted", ">correct", ">average precision", ">precision", ">recall", ">F1",
            ">threshold",
        )  # fmt: skip
        return [Cells(columns, rows)]

    def fields(self) -> dict[str, object]:
        return {
            "all_right_interval": [self.interval.low, self.interval.high],
            **{f"mean_{name}": value for name, value in self.means().items() if name != "f1"},
            "micro_f1": self.micro_f1,
            "loss": self.predictions.loss,
            "labels": [msgspec.to_builtins(score) for score in self.scores],
            "calibration": msgspec.to_builtins(self.calibration),
        }

    def image_rows(self, name: Callable[[int], str]) -> Iterator[Sequence[object]]:
        names = np.array([self.labels[number] for number in self.evaluated], object)
        for number, (truth, predicted, row) in enumerate(
            zip(self.predictions.truth, self.predicted, self.predictions.probabilities, strict=True)
        ):
            yield (
                name(number), ",".join(names[truth]), ",".join(names[predicted]), bool((truth == predicted).all()),
                *row.tolist(),
            )  # fmt: skip

    def mistakes(self, most: int) -> list[Mistake]:
        """Return the images with the wrong labels of the highest probability, or missing ones of the lowest; of each
        image its worst one or two labels."""
        truth, probabilities = self.predictions.truth, self.predictions.probabilities
        wrong = np.where(self.predicted != truth, np.where(truth, 1 - probabilities, probabilities), 0.0)
        worst = [number for number in np.argsort(-wrong.max(axis=1), kind="stable")[:most] if wrong[number].any()]
        found = []
        for number in worst:
            labels = [label for label in np.argsort(-wrong[number], kind="stable")[:2] if wrong[number, label] > 0]
            roles = tuple(
                ("missed label" if truth[number, label] else "wrong label", int(self.evaluated[label]))
                for label in labels
            )
            found.append(Mistake(int(number), roles))
        return found


def multi_label_report(
    found: LabelPredictions, labels: tuple[str, ...], evaluated: NDArray[np.int64], postprocess: Postprocess
) -> MultiLabelReport:
    """Return the report of predictions.

    Args:
        found: Of the evaluated labels.
        labels: The model's labels.
        evaluated: int64[M], the model's numbers of the labels that the data set knows.
        postprocess: The model's.

    Raises:
        CompoundNetError: there are no images.
    """
    if not found.count:
        raise CompoundNetError("there are no images to evaluate")
    numbers = evaluated.tolist()
    scores = label_scores(found, [labels[one] for one in numbers], [postprocess.threshold(one) for one in numbers])
    return MultiLabelReport(labels, evaluated, found, scores, label_calibration(found, postprocess.temperature))


def label_calibration(found: LabelPredictions, temperature: float) -> Calibration:
    """Return the calibration of the probabilities of all labels.

    Args:
        found: The predictions.
        temperature: The model's, which the probabilities contain.
    """
    truth = found.truth.ravel()
    # The logits, of which only their size is lost where a probability is 0 or 1.
    least = np.finfo(np.float64)
    logits = special.logit(found.probabilities.clip(least.tiny, 1 - least.epsneg)) * temperature
    bins = calibration_bins(found.probabilities.ravel(), truth)
    plain = label_predictions(logits, found.truth, Postprocess(function="sigmoid"))
    return Calibration(
        temperature=temperature,
        ece=calibration_error(bins),
        ece_before=calibration_error(calibration_bins(plain.probabilities.ravel(), truth)),
        loss=found.loss,
        loss_before=plain.loss if temperature != 1 else found.loss,
        confidence=float(found.probabilities.mean()),
        bins=bins,
    )
