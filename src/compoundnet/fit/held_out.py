"""Which held-out images a network and a probe get right, and which of the two is taken."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from compoundnet.base import Notify
from compoundnet.data import Dataset, Split
from compoundnet.fit.state import HeldOut
from compoundnet.models import ModelFolder
from compoundnet.runtime import features
from compoundnet.train import SingleLabelReport, Task, evaluate, fit_probe
from compoundnet.train.logistic import Balance

# By how many standard errors the probe must be better to stay: 1.96, 95 % confidence, or where it alone was fitted to
# all images, one. Fine-tuning is better on average. Of digits at 96 px the probe had three of 144 held-out images more,
# and 93.6 % of the test images where fine-tuned networks have 97 %; cross-validated it had 95.5 %, of these 97.2.
_ERRORS_ON_ALL, _ERRORS = 1.96, 1.0
# The images of a class that a probe needs: it is cross-validated.
_OF_PROBE = 2


class HeldOutComparison(NamedTuple):
    """Which held-out images the fine-tuned network and the probe get right.

    Attributes:
        tuned: bool[N], of the network.
        probed: bool[N], of the probe.
        cross_validated: The probe's accuracy on all training images, each judged by a probe that was not fitted to it;
            None if only the mean per class is known.
    """

    tuned: NDArray[np.bool_]
    probed: NDArray[np.bool_]
    cross_validated: float | None

    def better(self, on_all: bool) -> bool:
        """Return whether the network is taken: unless the probe is better with 95 % confidence, if the network will be
        trained on all images as the probe is; else unless the probe is ahead by more than one standard error.

        Whether the held-out images are easier than the others is known of the probe, which was cross-validated on all:
        the network's accuracy is corrected for it by regression (Cochran, "Sampling Techniques", 1977, chapter 7).
        """
        tuned, probed = self.tuned.astype(float), self.probed.astype(float)
        slope = 0.0 if probed.all() or not probed.any() else float(np.cov(tuned, probed)[0, 1] / probed.var(ddof=1))
        known = float(probed.mean()) if self.cross_validated is None else self.cross_validated
        expected = tuned.mean() + slope * (known - probed.mean())
        error = math.sqrt((tuned - slope * probed).var() / len(tuned))
        return bool(known - expected <= (_ERRORS_ON_ALL if on_all else _ERRORS) * error)


def is_ahead(one: HeldOut, other: HeldOut) -> bool:
    """Return whether one network has more of the held-out images right than another; of other images, by more than one
    standard error of the difference."""
    if one.images == other.images:
        return one.accuracy > other.accuracy
    variance = sum(held.accuracy * (1 - held.accuracy) / held.images for held in (one, other))
    return one.accuracy - other.accuracy > _ERRORS * math.sqrt(variance)


def right_by_network(model: ModelFolder, images: Split) -> NDArray[np.bool_]:
    """Return bool[N]: which images a model classifies correctly."""
    report = evaluate(model, Dataset("training images", {images.name: images}), split=images.name).report
    assert isinstance(report, SingleLabelReport)
    return np.asarray(report.images.predicted == report.images.truth)


def right_by_probe(probe: Task, task: Task, notify: Notify) -> NDArray[np.bool_]:
    """Return bool[N]: which held-out images of a task the probe gets right that is fitted to its training images.

    A probe needs two images of a class; of a class that has fewer it gets all wrong, and `notify` is called with a line
    that says so.
    """
    assert probe.start is not None and probe.recipe.balance != "auto" and task.held is not None
    rows, others = (
        features(probe.start, split, preprocess=probe.preprocess, max_bad=probe.recipe.max_bad)
        for split in (task.train, task.held)
    )
    labels, classes = task.train.labels, task.train.classes
    few = int((np.bincount(labels, minlength=len(classes)) < _OF_PROBE).sum())
    if few:
        what, them = ("one class has", "it") if few == 1 else (f"{few} classes have", "them")
        notify(
            f"{what} fewer than two images that are not held out: the probe that the network is compared with does"
            f" without {them}"
        )
    classify = classifier_of(rows, labels, classes, probe.recipe.balance)
    return np.zeros(len(task.held), bool) if classify is None else classify(others) == task.held.labels


def classifier_of(
    rows: NDArray[np.float32], labels: NDArray[Any], classes: Sequence[str], balance: Balance
) -> Callable[[NDArray[np.float32]], NDArray[np.int64]] | None:
    """Return a function from features float32[N, features] to classes int64[N]: a probe of the classes that have enough
    images for one; None if fewer than two have.

    Args:
        rows: The features float32[images, features] that it is fitted to.
        labels: Their classes int64[images].
        classes: The names of the classes.
        balance: How classes of unequal size are balanced.
    """
    known = np.flatnonzero(np.bincount(labels, minlength=len(classes)) >= _OF_PROBE)
    if len(known) < 2:
        return None
    place = np.full(len(classes), -1)
    place[known] = np.arange(len(known))
    used = place[labels] >= 0
    probe = fit_probe(rows[used], place[labels[used]], [classes[int(number)] for number in known], balance=balance)
    return lambda vectors: np.asarray(known[probe.logits(vectors).argmax(axis=1)])
