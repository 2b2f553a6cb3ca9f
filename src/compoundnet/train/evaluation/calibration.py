"""Calibration: how far probabilities can be trusted, and the temperature that mends them (Guo et al. 2017)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from compoundnet.base import CompoundNetError, Progress, ignore
from compoundnet.train.counts import Predicted, Tolerance, on_device, predict_readable

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from compoundnet.data import Split
    from compoundnet.models import Preprocess
    from compoundnet.nn import ConvNet

# Bins of equal width, as in Guo et al. 2017.
BINS = 15
# A temperature outside these bounds would mean damaged weights.
_LOWEST, _HIGHEST = 0.05, 20.0
# The confidence with which a temperature must differ from 1 to be used.
_CONFIDENCE = 0.95


class Bin(msgspec.Struct, frozen=True):
    """The images whose probability is above `low` and at most `high`; of images with several labels, the pairs of image
    and label.

    Attributes:
        low: Lower end.
        high: Upper end.
        count: Number of images.
        confidence: Mean probability of the predicted class; None without images.
        accuracy: Fraction that is right, or of which the image has the label; None without images.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


class Calibration(msgspec.Struct, frozen=True):
    """The probabilities of the predicted classes against the fractions that are right; of images with several labels,
    the probabilities of all labels against the fractions of images that have them.

    The expected calibration error is the mean over all images of |accuracy - confidence| of their bin: 15 bins of equal
    width by the probability of the predicted class (Guo et al. 2017). Few images make it too large, because the
    accuracy of a bin is then uncertain.

    Attributes:
        temperature: The model's.
        ece: Expected calibration error of the model's probabilities.
        ece_before: The same at temperature 1.
        loss: Mean cross-entropy.
        loss_before: The same at temperature 1.
        confidence: Mean probability of the predicted class, or of all labels.
        bins: The bins of `ece`, for a reliability diagram.
    """

    temperature: float
    ece: float
    ece_before: float
    loss: float
    loss_before: float
    confidence: float
    bins: tuple[Bin, ...]

    def describe(self, whose: str, hits: str) -> str:
        """Return the error in a line, with whose probability is the mean, and what it is compared with, in words."""
        text = (
            f"expected calibration error {self.ece:.2%} ({len(self.bins)} bins): the mean probability{whose}"
            f" is {self.confidence:.2%}, and {hits}"
        )
        if self.temperature == 1:
            return text
        return f"{text}; {self.ece_before:.2%} without the model's temperature of {self.temperature:.3g}"


def calibration_bins(probabilities: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[Bin, ...]:
    """Return the bins of images.

    Args:
        probabilities: float64[N], of the predicted classes.
        right: bool[N], whether these are the true ones.
    """
    places = np.clip(np.ceil(probabilities * BINS).astype(np.int64) - 1, 0, BINS - 1)
    counts = np.bincount(places, minlength=BINS)
    confidence = np.bincount(places, probabilities, BINS)
    hits = np.bincount(places, right, BINS)
    return tuple(
        Bin(
            place / BINS,
            (place + 1) / BINS,
            int(count),
            float(confidence[place] / count) if count else None,
            float(hits[place] / count) if count else None,
        )
        for place, count in enumerate(counts)
    )


def calibration_error(bins: tuple[Bin, ...]) -> float:
    """Return the expected calibration error; see `Calibration`."""
    count = sum(one.count for one in bins)
    return sum(
        one.count / count * abs(one.accuracy - one.confidence)
        for one in bins
        if one.accuracy is not None and one.confidence is not None
    )


class TemperatureFit(msgspec.Struct, frozen=True):
    """A temperature fitted on held-out images.

    Attributes:
        temperature: The one to use: `fitted`, or 1 if the images do not show that it differs from 1.
        fitted: The temperature of the lowest loss.
        images: The number of images.
        loss: Mean cross-entropy at `temperature`.
        loss_before: Mean cross-entropy at temperature 1.
    """

    temperature: float
    fitted: float
    images: int
    loss: float
    loss_before: float

    def __str__(self) -> str:
        images = f"{self.images:,} held-out image{'s' * (self.images != 1)}"
        if self.temperature != 1:
            return (
                f"probabilities calibrated on {images}: temperature {self.temperature:.3g}"
                f" (loss {self.loss_before:.4f} before, {self.loss:.4f} after)"
            )
        return (
            f"probabilities left as they are: {images} do{'es' * (self.images == 1)} not show that the"
            f" temperature differs from 1 (best: {self.fitted:.3g})"
        )


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> TemperatureFit:
    """Fit the temperature by maximum likelihood, which is one convex problem in one number (Guo et al. 2017).

    It is used only if a likelihood-ratio test (95 %) shows that it differs from 1, so that a few images change nothing.
    If all images are classified correctly, the likelihood would have no maximum: as in Platt (1999), the true class of
    N images counts (N + 1) / (N + 2), and the other classes share the rest.

    Args:
        logits: float[N, classes] of images that did not take part in training.
        labels: int64[N].
    """
    values = logits.astype(np.float64)
    count, classes = values.shape
    rows = np.arange(count)

    def losses(temperature: float) -> tuple[float, float]:
        """Mean cross-entropy with the targets as they are, and with Platt's."""
        logarithms = special.log_softmax(values / temperature, axis=1)
        true = logarithms[rows, labels]
        others = (logarithms.sum(axis=1) - true) / max(1, classes - 1)
        return float(-true.mean()), float(-((count + 1) * true + others).mean() / (count + 2))

    fitted = _minimum(lambda temperature: losses(temperature)[1])
    return _choose(fitted, losses, count)


def fit_label_temperature(logits: NDArray[np.floating], truth: NDArray[np.bool_]) -> TemperatureFit:
    """Fit one temperature for all labels of images that may have several, as `fit_temperature` does.

    The loss is the binary cross-entropy, summed over the labels of an image. A temperature for each label would follow
    the few images that have a rare one. The true answer counts (N + 1) / (N + 2), as there. The labels of an image may
    go together, so that they are not observations of their own: the likelihood ratio is divided by the factor by which
    this increases its variance (Kent 1982).

    Args:
        logits: float[N, labels] of images that did not take part in training.
        truth: bool[N, labels].
    """
    values, count = logits.astype(np.float64), len(logits)
    targets = np.where(truth, count + 1, 1) / (count + 2)

    def losses(temperature: float) -> tuple[float, float]:
        """Mean cross-entropy with the targets as they are, and with Platt's."""
        scaled = values / temperature
        shared = np.logaddexp(0, scaled)  # -log of the probability that the image has not the label
        return tuple(float((shared - target * scaled).sum(axis=1).mean()) for target in (truth, targets))  # type: ignore[return-value]

    fitted = _minimum(lambda temperature: losses(temperature)[1])
    scaled = values / fitted
    probabilities = special.expit(scaled)
    slopes = (probabilities - targets) * scaled  # of each label's loss, by the logarithm of the temperature
    curvature = (slopes + probabilities * (1 - probabilities) * scaled**2).sum()
    shared_factor = max(1.0, float((slopes.sum(axis=1) ** 2).sum() / max(curvature, np.finfo(np.float64).tiny)))
    return _choose(fitted, losses, count, shared_factor)


def _choose(
    fitted: float, losses: Callable[[float], tuple[float, float]], count: int, shared_factor: float = 1.0
) -> TemperatureFit:
    """Use a fitted temperature if the images show that it differs from 1, and if it lowers the loss itself: with few
    images Platt's targets weigh more than they do."""
    (loss_before, platt_before), (loss, platt) = losses(1.0), losses(fitted)
    ratio = 2 * count * (platt_before - platt) / shared_factor
    if ratio > _different() and loss < loss_before:
        return TemperatureFit(fitted, fitted, count, loss, loss_before)
    return TemperatureFit(1.0, fitted, count, loss_before, loss_before)


def _minimum(loss: Callable[[float], float]) -> float:
    """Return the temperature of the lowest loss."""
    found = optimize.minimize_scalar(
        lambda logarithm: loss(math.exp(logarithm)),
        bounds=(math.log(_LOWEST), math.log(_HIGHEST)),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return math.exp(found.x)


def _different() -> float:
    """Return the likelihood ratio from which on one number differs from 1."""
    return float(stats.chi2.ppf(_CONFIDENCE, 1))


def held_out_logits(
    net: ConvNet,
    held: Split,
    preprocess: Preprocess,
    fabric: Fabric,
    *,
    tolerance: Tolerance,
    workers: int | None = 0,
    progress: Progress = ignore,
) -> Predicted:
    """Return the logits float64[N, classes] of held-out images. All processes call it together, with the same result.

    Args:
        net: The network, on this process's device, in eval mode.
        held: Images that did not take part in training.
        preprocess: The network's.
        fabric: The processes.
        tolerance: How many unreadable images are left out.
        workers: Decoding processes for each process.
        progress: Called with the number of images that this process has just finished.

    Raises:
        CompoundNetError: a logit is not finite, or there are more unreadable images than are tolerated.
    """
    found = predict_readable(
        on_device(net, fabric), lambda found, *_: found, held, preprocess, fabric,
        columns=net.num_classes, workers=workers, progress=progress, tolerance=tolerance,
    )  # fmt: skip
    if not np.isfinite(found.values).all():
        raise CompoundNetError("the network gives values that are not finite for held-out images")
    return found
