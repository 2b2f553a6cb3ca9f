"""Whether training may mirror the images: a mirrored cat is a cat, and a mirrored 2 is no 2."""

from __future__ import annotations

from math import comb
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import ImageOps

from compoundnet.base.images import UnreadableImageError
from compoundnet.data import Dataset, Split
from compoundnet.fit.candidates import Candidate
from compoundnet.fit.held_out import classifier_of
from compoundnet.fit.screen import probe_of
from compoundnet.models import ModelFolder
from compoundnet.runtime import Embedder

# Images that probes are fitted to, and that they judge, at the most; and the side at which they see them, in pixels: so
# it takes seconds, and features tell mirrored images apart best at a low resolution.
_FITTED, _JUDGED, _SIDE = 2000, 1000, 64
# What must be lost for mirroring to be left out: so many of the images, and so little of it by chance. Of 1,000
# digits, Lite0's probe at 48 px has 92 % right and 87 mirrored; of 1,000 images of CIFAR-10, 55 and 54 % at 64 px.
# Fine-tuned at 48 px for eight epochs, with mirrored images and without, it has 92.5 and 97.8, 95.0 and 96.9 % of 359
# digits right.
_LOST, _CHANCE = 0.01, 0.01


class Mirroring(NamedTuple):
    """How a probe classifies images that it was not fitted to, and these images mirrored.

    Attributes:
        images: Their number.
        right: How many are right.
        lost: How many of these are wrong when they are mirrored.
        won: How many of the others are right when they are mirrored.
    """

    images: int
    right: int
    lost: int
    won: int

    @property
    def harms(self) -> bool:
        """Whether mirrored images are classified worse, by the sign test (McNemar 1947)."""
        changed = self.lost + self.won
        chance = sum(comb(changed, won) for won in range(self.won + 1)) / 2**changed
        return self.lost - self.won >= _LOST * self.images and chance < _CHANCE

    def __str__(self) -> str:
        before, after = (100 * right / self.images for right in (self.right, self.right - self.lost + self.won))
        mirrored = f"{after:.0f} % if they are mirrored"
        return f"of {self.images:,} training images a probe has {before:.0f} % right, {mirrored}"


def compare_mirrored(candidate: Candidate, dataset: Dataset, start: ModelFolder) -> Mirroring | None:
    """Return how probes of a candidate classify mirrored training images; None if they can be fitted to no half.

    Each half of the images is judged by a probe that is fitted to the other half. Unreadable images are left out.
    """
    small = msgspec.structs.replace(candidate, resolution=min(_SIDE, candidate.resolution))
    probe = probe_of(small, dataset, start)
    assert probe.recipe.balance != "auto"
    random = np.random.default_rng(0)
    chosen = probe.train.subset(random.permutation(len(probe.train))[:_FITTED])
    embedder = Embedder(start, preprocess=probe.preprocess)
    rows = embedder.of_split(chosen, max_bad=len(chosen))
    readable = np.flatnonzero(np.isfinite(rows).all(axis=1))
    halves = readable[::2], readable[1::2]
    plain, mirrored = list[NDArray[np.bool_]](), list[NDArray[np.bool_]]()
    for judged, fitted in (halves, halves[::-1]):
        classify = classifier_of(rows[fitted], chosen.labels[fitted], chosen.classes, probe.recipe.balance)
        if classify is None:
            return None
        some = judged[: _JUDGED // 2]
        plain.append(classify(rows[some]) == chosen.labels[some])
        mirrored.append(classify(_mirrored_features(embedder, chosen.subset(some))) == chosen.labels[some])
    before, after = np.concatenate(plain), np.concatenate(mirrored)
    return Mirroring(len(before), int(before.sum()), int((before & ~after).sum()), int((~before & after).sum()))


def _mirrored_features(embedder: Embedder, images: Split) -> NDArray[np.float32]:
    """The features float32[N, features] of images mirrored; NaN in the rows of those that cannot be read any more."""
    found = np.full((len(images), embedder.width), np.nan, np.float32)
    for index in range(len(images)):
        try:
            found[index] = embedder(ImageOps.mirror(images.image(index)))
        except UnreadableImageError:
            continue
    return found
