"""Several labels an image: the loss, the start of the classifier, the thresholds, and the scores.

Each label is a yes or no of its own (a sigmoid), so an image may have several labels, or none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from compoundnet.base import Progress, ignore
from compoundnet.data import Split
from compoundnet.data.dataset import Labels
from compoundnet.data.names import some
from compoundnet.models import Postprocess, Preprocess
from compoundnet.nn import ConvNet
from compoundnet.train.counts import Tolerance, on_device, predict_readable

if TYPE_CHECKING:
    from lightning_fabric import Fabric

# The threshold of a label that no held-out image has.
_UNDECIDED = 0.5
_PLAIN = Postprocess(function="sigmoid")


class LabelCrossEntropy(nn.Module):
    """Binary cross-entropy, summed over the labels of an image and averaged over images.

    The sum over labels is the negative logarithm of the probability of an image's labels together. Each label's weights
    therefore get gradients of the size that cross-entropy gives to the weights of a class, however many labels there
    are.

    Args:
        label_smoothing: The target of a label is 1 - `label_smoothing` / 2 if an image has it, otherwise
            `label_smoothing` / 2, as in Keras' BinaryCrossentropy.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of logits float32[N, labels] and labels float32[N, labels], 0 or 1."""
        targets = labels * (1 - self.label_smoothing) + self.label_smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1).mean()


def starting_bias(split: Split) -> Tensor:
    """Return the bias float32[labels] with which a new classifier predicts each label's share of the images.

    Most images lack most labels: with a bias of 0 the first steps would learn nothing else (Lin et al. 2017,
    arXiv:1708.02002, section 3.3).
    """
    shares = (split.counts() + 0.5) / (len(split) + 1)
    return torch.from_numpy(np.log(shares / (1 - shares))).float()


class LabelScore(msgspec.Struct, frozen=True):
    """The score of one label.

    Attributes:
        label: The label.
        count: The number of images that have it.
        predicted: The number of images that are predicted to have it: their probability reaches the threshold.
        right: The number of images for which both is true.
        threshold: The model's threshold of the label.
        average_precision: The area under the curve of precision over recall as a sum of steps, for all thresholds; None
            if no image has the label.
        precision: Fraction of the images predicted to have it that do; None if there are none.
        recall: Fraction of the images that have it that are predicted to; None if no image has it.
        f1: Harmonic mean of precision and recall, 0 if `right` is 0; None if no image has the label.
    """

    label: str
    count: int
    predicted: int
    right: int
    threshold: float
    average_precision: float | None
    precision: float | None
    recall: float | None
    f1: float | None


def count_labels(
    net: ConvNet,
    split: Split,
    preprocess: Preprocess,
    fabric: Fabric,
    *,
    postprocess: Postprocess = _PLAIN,
    batch: int = 64,
    workers: int | None = 0,
    progress: Progress = ignore,
    tolerance: Tolerance | None = None,
) -> LabelPredictions:
    """Predict the labels of a split with a network on this process's device; see `predict_readable`."""
    found = predict_readable(
        on_device(net, fabric), lambda found, *_: found, split, preprocess, fabric,
        columns=net.num_classes, batch=batch, workers=workers, progress=progress, tolerance=tolerance,
    )  # fmt: skip
    return label_predictions(found.values, split.labels[found.numbers], postprocess)


def label_predictions(logits: NDArray[np.float64], labels: Labels, postprocess: Postprocess) -> LabelPredictions:
    """Return the predictions of logits float64[N, labels] for images with labels bool[N, labels]."""
    truth = labels.astype(np.bool_)
    # -log of the sigmoid of the logit, or of its negative: of the probability of the true answer.
    losses = np.logaddexp(0, np.where(truth, -logits, logits) / postprocess.temperature)
    return LabelPredictions(truth, postprocess.probabilities(logits), float(losses.sum(axis=1).mean()))


class LabelPredictions(msgspec.Struct, frozen=True, eq=False):
    """The predictions of several labels an image.

    Attributes:
        truth: bool[N, labels].
        probabilities: float64[N, labels].
        loss: Mean over images of the binary cross-entropy, summed over labels.
    """

    truth: NDArray[np.bool_]
    probabilities: NDArray[np.float64]
    loss: float

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.truth)

    def all_right(self, thresholds: Sequence[float] = (_UNDECIDED,)) -> float:
        """Return the fraction of the images of which every label is predicted correctly; one threshold is for all."""
        return float(((self.probabilities >= np.array(thresholds)) == self.truth).all(axis=1).mean())

    @property
    def top1(self) -> float:
        """`all_right` at a threshold of 0.5."""
        return self.all_right()

    @property
    def score(self) -> float:
        """The figure by which the best evaluation is chosen: `mean_average_precision`."""
        return self.mean_average_precision

    @property
    def average_precisions(self) -> NDArray[np.float64]:
        """float64[labels]; NaN for a label that no image has."""
        return average_precisions(self.truth, self.probabilities)

    @property
    def mean_average_precision(self) -> float:
        """Mean of the average precision over the labels that an image has (mAP); 0 if there are none."""
        known = self.average_precisions
        known = known[~np.isnan(known)]
        return float(known.mean()) if len(known) else 0.0


def average_precisions(truth: NDArray[np.bool_], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return float64[labels]: the average precision of each label, NaN for one that no image has.

    Args:
        truth: bool[N, labels].
        probabilities: float64[N, labels].
    """
    from sklearn.metrics import average_precision_score  # noqa: PLC0415  takes a second, and few trainings need it

    found = np.full(truth.shape[1], np.nan)
    for label in np.flatnonzero(truth.any(axis=0)):
        found[label] = average_precision_score(truth[:, label], probabilities[:, label])
    return found


def best_thresholds(truth: NDArray[np.bool_], probabilities: NDArray[np.float64]) -> tuple[float, ...]:
    """Return for each label the threshold of the highest F1 on these images; 0.5 for a label that no image has.

    Between equally good ones the highest counts. It lies halfway between the last probability that it accepts and the
    next one below.

    Args:
        truth: bool[N, labels], of images that did not take part in training.
        probabilities: float64[N, labels].
    """
    return tuple(
        _best_threshold(truth[:, label], probabilities[:, label]) if truth[:, label].any() else _UNDECIDED
        for label in range(truth.shape[1])
    )


def _best_threshold(truth: NDArray[np.bool_], probabilities: NDArray[np.float64]) -> float:
    from sklearn.metrics import precision_recall_curve  # noqa: PLC0415  as above

    precision, recall, levels = precision_recall_curve(truth, probabilities)
    precision, recall = precision[:-1], recall[:-1]  # the last point accepts no image
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(np.float64).tiny)
    best = np.flatnonzero(f1 == f1.max())[-1]
    below = probabilities[probabilities < levels[best]].max(initial=0.0)
    return float((levels[best] + below) / 2)


class ThresholdFit(msgspec.Struct, frozen=True):
    """Thresholds chosen on held-out images.

    Attributes:
        thresholds: Of each label; 0.5 for a label that no held-out image has.
        images: The number of held-out images.
        undecided: The labels that none of them has.
        rarest: The label that the fewest of them have, of those that any has; None if none of them has any.
        rarest_count: How many have it.
    """

    thresholds: tuple[float, ...]
    images: int
    undecided: tuple[str, ...]
    rarest: str | None
    rarest_count: int

    def __str__(self) -> str:
        text = f"the threshold of each label is that of the best F1 on {self.images:,} held-out images"
        if self.rarest is not None:
            have = "has" if self.rarest_count == 1 else "have"
            text += f", of which {self.rarest_count:,} {have} {self.rarest!r}, the rarest"
        if not self.undecided:
            return text
        shown = some(self.undecided, 3)
        return f"{text}; it is 0.5 for labels that none of these images has: {shown}"


def fit_thresholds(found: LabelPredictions, labels: Sequence[str]) -> ThresholdFit:
    """Choose the threshold of each label on predictions of held-out images; see `best_thresholds`."""
    counts = dict(zip(labels, found.truth.sum(axis=0).tolist(), strict=True))
    undecided = tuple(label for label, count in counts.items() if not count)
    rarest = min((label for label in labels if counts[label]), key=lambda label: counts[label], default=None)
    return ThresholdFit(
        best_thresholds(found.truth, found.probabilities), found.count, undecided, rarest, counts.get(rarest or "", 0)
    )


def label_scores(found: LabelPredictions, labels: Sequence[str], thresholds: Sequence[float]) -> tuple[LabelScore, ...]:
    """Return the score of each label at its threshold."""
    predicted = found.probabilities >= np.array(thresholds)
    columns = (found.truth.sum(axis=0), predicted.sum(axis=0), (predicted & found.truth).sum(axis=0))
    return tuple(
        LabelScore(
            label=label,
            count=count,
            predicted=chosen,
            right=right,
            threshold=float(threshold),
            average_precision=None if np.isnan(average) else float(average),
            precision=right / chosen if chosen else None,
            recall=right / count if count else None,
            f1=2 * right / (count + chosen) if count else None,
        )
        for label, threshold, average, count, chosen, right in zip(
            labels, thresholds, found.average_precisions, *(column.tolist() for column in columns), strict=True
        )
    )
