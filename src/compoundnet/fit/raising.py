"""The resolution of the answer: a higher one than it was trained at, where the budget and the images allow that.

Training sees random crops, in which an object is larger than in the whole image that is classified afterwards. A higher
resolution makes up for it, and costs no training (Touvron et al., "Fixing the train-test resolution discrepancy",
NeurIPS 2019, arXiv:1906.06423). It does not for images without such a variation of size, as of digits, so that it is
measured.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from compoundnet.arch import Network
from compoundnet.base import Notify
from compoundnet.data import Split
from compoundnet.fit.candidates import HIGHEST, Candidate, measured
from compoundnet.fit.held_out import right_by_network
from compoundnet.fit.limits import SAFE
from compoundnet.fit.screen import Screened
from compoundnet.fit.state import Answer, Fit
from compoundnet.fit.ways import network_latency
from compoundnet.models import ModelFolder
from compoundnet.runtime import Embedder

# The pixels between two resolutions that are tried, and how many are judged. Of 2,000 CIFAR-10 images, networks trained
# on 100 a class: Lite0 of 64 px, 72.6 % right at 64 px, 74.0 at 72, 76.2 at 80 and 77.3 at 96; of 80 px, 77.4 and 78.5
# at 96. Lite1 of 96 px, 81.8, 83.1 at 112 and 83.2 at 128; with 10 a class, of 112 px, 65.1, 66.5 at 128 and 67.3 at
# 144. Of digits, Lite0 of 48 px, 93.9 and 86.4 at 56.
_STEP, _JUDGED = 8, 3
# The images on which each is judged, of more evenly spaced ones, so that it takes seconds.
_ENOUGH = 1000
# A resolution is not timed if it is predicted to take more than so many times the limit: a prediction by multiply-adds
# is too high where part of the time is not theirs.
_HOPEFUL = 1.25


class Raised(NamedTuple):
    """A network at the resolution that is best for it.

    Attributes:
        screened: The candidate at that resolution, with its latency, and the accuracy of the probe of that of training.
        right: bool[N]: which held-out images it gets right.
    """

    screened: Screened
    right: NDArray[np.bool_]


def raise_resolution(
    trained: Screened,
    model: ModelFolder,
    base: Network,
    held: Split,
    judging: Split,
    state: Fit,
    notify: Notify,
) -> Raised | None:
    """Return a network at the resolution within the budget at which it gets most images right; of equals the highest.

    Args:
        trained: The candidate that was trained.
        model: The network.
        base: The network of the model that the candidate starts from.
        held: The held-out images.
        judging: The images by which resolutions are compared: the held-out ones, or all that are for training where
            those are few.
        state: The state of the fit. An answer of an earlier call keeps its resolution.
        notify: Called with a line if resolutions were compared.

    Returns:
        The network at a resolution other than that of training; None if that is the best.
    """
    if state.limits.min_accuracy is not None:  # the cheapest is wanted
        return None
    if (before := _of_answer(trained, model, held, state.answer)) is not None:
        return None if before.screened.candidate.resolution == trained.candidate.resolution else before
    fitting = _fitting(trained, model, base, state)
    higher = [fitting[place] for place in _evenly(len(fitting))]
    if not higher:
        return None
    own = trained.candidate.resolution
    images = f"{'held-out ' if judging is held else ''}training images"
    if len(judging) > _ENOUGH:
        judging = judging.subset(np.linspace(0, len(judging) - 1, _ENOUGH).astype(np.int64))
    sides = [own, *(one.candidate.resolution for one in higher)]
    rights = {side: right_by_network(model.at_resolution(side), judging) for side in sides}
    scores = {side: int(right.sum()) for side, right in rights.items()}
    best = max(scores, key=lambda side: (scores[side], side))
    shares = ", ".join(f"{scores[side] / len(judging):.1%} at {side} px" for side in sorted(scores))
    notify(
        f"{trained.candidate} at higher resolutions that fit: of {len(judging):,} {images} {shares} are right, so"
        f" {'that of training stays' if best == own else f'{best} px are taken'}"
    )
    if best == own:
        return None
    (one,) = (one for one in higher if one.candidate.resolution == best)
    return Raised(one, rights[best] if judging is held else right_by_network(model.at_resolution(best), held))


def _of_answer(trained: Screened, model: ModelFolder, held: Split, answer: Answer | None) -> Raised | None:
    """The answer of an earlier call, if it is this network at some resolution: as many held-out images are right."""
    if answer is None or answer.held_out is None or answer.candidate.shape != trained.candidate.shape:
        return None
    own, found = trained.candidate.resolution, answer.candidate.resolution
    if not own <= found <= HIGHEST * own:
        return None
    right = right_by_network(model.at_resolution(found), held)
    if float(right.mean()) != answer.held_out.accuracy:
        return None
    return Raised(Screened(answer.candidate, answer.latency, trained.accuracy), right)


def _fitting(trained: Screened, model: ModelFolder, base: Network, state: Fit) -> list[Screened]:
    """The candidate at higher resolutions that meet the budget, the highest first."""
    own = trained.candidate
    sides = reversed(range(own.resolution + _STEP, int(HIGHEST * own.resolution) + 1, _STEP))
    costed = [
        measured(own.model, base, side, model.network.num_classes, own.width, own.depth).in_precision(
            own.precision, own.backend
        )
        for side in sides
    ]
    within = [one for one in costed if one.exceeds(state.limits) is None]
    limit = state.limits.max_latency
    if limit is None or not within:
        assert trained.latency is not None
        before = trained.latency / own.macs
        return [Screened(one, before * one.macs, trained.accuracy) for one in within]

    def timed(one: Candidate) -> float:
        embedder = Embedder(model.at_resolution(one.resolution))
        return network_latency(embedder, state.threads) * state.ratios.get(one.way, 1.0)

    # Timed now: the machine may be faster, or slower, than when the candidate was screened.
    pace = timed(own) / own.macs
    for place, one in enumerate(within):
        if pace * one.macs <= _HOPEFUL * limit and (latency := timed(one)) <= SAFE * limit:
            pace = latency / one.macs  # those below it are faster
            return [Screened(lower, pace * lower.macs, trained.accuracy) for lower in within[place:]]
    return []


def _evenly(count: int) -> list[int]:
    """Places in a list, from the first to the last, as many as are judged."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(_JUDGED, count))})
