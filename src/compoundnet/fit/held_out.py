"""Which held-out images a network and a probe get right, and which of the two is taken."""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from compoundnet.data import Dataset, Split
from compoundnet.fit.state import HeldOut
from compoundnet.models import ModelFolder
from compoundnet.train import SingleLabelReport, evaluate

# The probe stays only if it is better with this confidence, or where it alone was fitted to all images, by this many
# standard errors: fine-tuning is better on average. Of digits at 96 px the probe had one of 144 held-out images more,
# and 93.6 % of the test images where fine-tuned networks have 97 %.
_CONFIDENCE, _ERRORS = 0.95, 1.0


class HeldOutComparison(NamedTuple):
    """Which held-out images the fine-tuned network and the probe get right, bool[N] each."""

    tuned: NDArray[np.bool_]
    probed: NDArray[np.bool_]

    def better(self, on_all: bool) -> bool:
        """Return whether the network is taken.

        One that will be trained on all images, as the probe is, is taken unless the probe is better with 95 %
        confidence (McNemar's exact test); another unless the probe is ahead by more than one standard error.
        """
        only_probe, only_tuned = int((self.probed & ~self.tuned).sum()), int((self.tuned & ~self.probed).sum())
        if only_tuned >= only_probe:
            return True
        if not on_all:
            return only_probe - only_tuned <= _ERRORS * math.sqrt(only_probe + only_tuned)
        return bool(stats.binomtest(only_probe, only_probe + only_tuned).pvalue > 1 - _CONFIDENCE)


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


def at_resolution(model: ModelFolder, side: int) -> ModelFolder:
    """Return a model for images of a side in pixels."""
    return msgspec.structs.replace(model, preprocess=msgspec.structs.replace(model.preprocess, size=side))
