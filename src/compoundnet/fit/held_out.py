"""Which held-out images a network and a probe get right, and which of the two is taken."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from compoundnet.data import Dataset, Split
from compoundnet.models import ModelFolder
from compoundnet.train import SingleLabelReport, evaluate

# The probe stays only if it is better with this confidence: fine-tuning is better on average.
_CONFIDENCE = 0.95


class HeldOutComparison(NamedTuple):
    """Which held-out images the fine-tuned network and the probe get right, bool[N] each."""

    tuned: NDArray[np.bool_]
    probed: NDArray[np.bool_]

    def better(self, on_all: bool) -> bool:
        """Return whether the network is taken. One that will be trained on all images, as the probe is, is taken unless
        the probe is better with 95 % confidence (McNemar's exact test); another if it is as good."""
        only_probe, only_tuned = int((self.probed & ~self.tuned).sum()), int((self.tuned & ~self.probed).sum())
        if only_tuned >= only_probe or not on_all:
            return only_tuned >= only_probe
        return bool(stats.binomtest(only_probe, only_probe + only_tuned).pvalue > 1 - _CONFIDENCE)


def right_by_network(model: ModelFolder, images: Split) -> NDArray[np.bool_]:
    """Return bool[N]: which images a model classifies correctly."""
    report = evaluate(model, Dataset("training images", {images.name: images}), split=images.name).report
    assert isinstance(report, SingleLabelReport)
    return np.asarray(report.images.predicted == report.images.truth)


def at_resolution(model: ModelFolder, side: int) -> ModelFolder:
    """Return a model for images of a side in pixels."""
    return msgspec.structs.replace(model, preprocess=msgspec.structs.replace(model.preprocess, size=side))
