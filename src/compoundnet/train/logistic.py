"""Logistic regression on features, whose strength of regularisation is chosen by cross-validation.

The objective is the mean cross-entropy plus strength / 2 times the squared weights; for several labels an image, the
mean over images of the binary cross-entropies summed over labels. It is convex, and SciPy's L-BFGS finds its minimum.
scikit-learn's LogisticRegression, which also calls L-BFGS, was considered: it has no offset of the logits, which
`balance = "loss"` needs, fits several labels one at a time, and starts each strength from nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special
from threadpoolctl import threadpool_limits

from compoundnet.base import CompoundNetError, Progress, ignore
from compoundnet.base.machine import cores
from compoundnet.data.dataset import Labels

Balance: TypeAlias = Literal["none", "sampler", "loss"]
Floats: TypeAlias = NDArray[np.float32]

# On features of variance 1, from strong to weak.
STRENGTHS = tuple(10 ** (power / 2) for power in range(2, -9, -1))
# Strengths that are tried after the best so far: the loss has one minimum, but for noise.
_MORE = 2
FOLDS = 5
# Images that choose the strength; more would take longer and choose the same.
_MOST = 10_000
_ITERATIONS = 300
# The relative change of the objective at which a fit ends: to compare strengths, and of the result.
_ROUGH, _FINE = 1e-6, 1e-7


class Probe(msgspec.Struct, frozen=True, eq=False):
    """A linear classifier of features, with what cross-validation says of it.

    Attributes:
        weight: float32[classes, features].
        bias: float32[classes].
        strength: The strength of regularisation.
        accuracy: Fraction of the images that are right when their fold is left out; of several labels an image the
            fraction with all labels right at a threshold of 0.5.
        mean_per_class: Mean of that fraction over the classes of `labels`, of rare ones perhaps not all; None for
            several labels an image.
        folds: The number of folds.
        held_out: float32[M, classes], the logits of images when their fold is left out: of all, or of 10,000.
        labels: The labels of these images, as `fit_probe` was given them.
        losses: The strengths tried, and the mean loss of the images left out with each.
    """

    weight: Floats
    bias: Floats
    strength: float
    accuracy: float
    mean_per_class: float | None
    folds: int
    held_out: Floats
    labels: Labels
    losses: dict[float, float]

    def logits(self, features: Floats) -> Floats:
        """Return logits float32[N, classes] of features float32[N, features]."""
        return features @ self.weight.T + self.bias

    def fields(self) -> dict[str, object]:
        """Return what cross-validation says as plain values for a JSON document."""
        return {
            "strength": self.strength,
            "accuracy": self.accuracy,
            "mean_per_class": self.mean_per_class,
            "folds": self.folds,
            "images": len(self.labels),
            "losses": [{"strength": strength, "loss": loss} for strength, loss in self.losses.items()],
        }

    def __str__(self) -> str:
        mean = "" if self.mean_per_class is None else f", mean per class {self.mean_per_class:.2%}"
        judged, classes = len(np.unique(self.labels)), len(self.bias)
        if mean and judged < classes:
            mean += f" of the {judged:,} of {classes:,} classes that are among the images judged"
        what = "all labels right" if self.mean_per_class is None else "top-1"
        return (
            f"logistic regression with strength {self.strength:.3g}: {what} {self.accuracy:.2%}{mean} in"
            f" {self.folds}-fold cross-validation of {len(self.labels):,} images"
        )


def fit_probe(
    features: Floats,
    labels: Labels,
    classes: Sequence[str] | None = None,
    *,
    balance: Balance = "none",
    folds: int = FOLDS,
    seed: int = 0,
    progress: Progress = ignore,
) -> Probe:
    """Fit a linear classifier to features.

    Args:
        features: float32[N, features], finite.
        labels: int64[N], the class of each image; or bool[N, classes], its labels.
        classes: Their names, for messages; by default the numbers from 0 to the largest class.
        balance: What makes up for classes of unequal size: "loss" adds the logarithms of their shares to the logits
            (`AdjustedCrossEntropy`), "sampler" weighs the images so that all classes weigh the same.
        folds: The number of folds; fewer if a class has fewer images.
        seed: Seed of the folds.
        progress: Called with 1 after each strength tried, of at most `len(STRENGTHS)`.

    Raises:
        CompoundNetError: A class has fewer than two images, which cross-validation needs, or a feature is not finite.
    """
    several = labels.ndim == 2
    names = classes or tuple(map(str, range(labels.shape[1] if several else int(labels.max()) + 1)))
    count = len(names)
    truth = labels.astype(np.bool_) if several else labels[:, None] == np.arange(count)
    check_counts(truth.sum(axis=0), names)
    if not np.isfinite(features).all():
        raise CompoundNetError("a feature is not finite")
    folds = min(folds, int(truth.sum(axis=0).min()))
    space = _Space.of(features)
    points = space.points(features)
    random = np.random.default_rng(seed)
    judged = np.sort(random.permutation(len(points))[:_MOST])
    fold_of = assign_folds(truth[judged], folds, random)
    problems = [
        _Problem.of(points[judged[fold_of != fold]], truth[judged[fold_of != fold]], several, balance)
        for fold in range(folds)
    ]
    starts: list[NDArray[np.float64] | None] = [None] * folds
    importance = _importance(truth[judged], several, balance)
    losses: dict[float, float] = {}
    best, held_out = STRENGTHS[0], np.empty((len(judged), count), np.float32)
    with _side_by_side(folds) as pool:
        for place, strength in enumerate(STRENGTHS):
            logits = np.empty_like(held_out)
            starts = list(pool.map(partial(_Problem.solve, strength=strength, tolerance=_ROUGH), problems, starts))
            for fold, (problem, solution) in enumerate(zip(problems, starts, strict=True)):
                assert solution is not None
                logits[fold_of == fold] = problem.logits(points[judged[fold_of == fold]], solution)
            losses[strength] = float(importance @ _losses(logits, truth[judged], several) / len(judged))
            progress(1)
            if losses[strength] <= min(losses.values()):
                best, held_out = strength, logits
            elif place - STRENGTHS.index(best) >= _MORE:
                break
        problem = _Problem.of(points, truth, several, balance)
        weight, bias = space.unprojected(*problem.parts(problem.solve(None, best, _FINE)))
    right = ((held_out > 0) == truth[judged]).all(1) if several else held_out.argmax(1) == truth[judged].argmax(1)
    counts = truth[judged].sum(axis=0)
    right_of_class = right @ truth[judged].astype(np.int64)
    mean = None if several else float((right_of_class[counts > 0] / counts[counts > 0]).mean())
    return Probe(weight, bias, best, float(right.mean()), mean, folds, held_out, labels[judged], losses)


def check_counts(counts: NDArray[np.int64], names: Sequence[str]) -> None:
    """Raise CompoundNetError if a class has too few images for cross-validation."""
    place, fewest = int(counts.argmin()), int(counts.min())
    if fewest < 2:
        raise CompoundNetError(
            f"{names[place]!r} has {fewest} training image{'s' * (fewest != 1)}, and a probe needs at"
            " least 2 of each class, because it is cross-validated: add some, or fine-tune without a probe"
            " (--recipe finetune)"
        )


def assign_folds(truth: NDArray[np.bool_], folds: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return int64[N], the fold of each image: each class, or label, is spread as evenly as it can be.

    Of several labels an image, the rarest label goes first (Sechidis et al. 2011, "On the stratification of multi-label
    data", simplified).

    Args:
        truth: bool[N, classes].
        folds: The number of folds.
        random: Source of the order within a class.
    """
    fold_of = np.full(len(truth), -1, np.int64)
    following = 0
    for label in np.argsort(truth.sum(axis=0), kind="stable"):
        members = random.permutation(np.flatnonzero(truth[:, label] & (fold_of < 0)))
        taken = np.bincount(fold_of[truth[:, label] & (fold_of >= 0)], minlength=folds)
        for member in members:
            # The fold with the fewest of this label; in turn where several have as few.
            order = np.argsort(np.roll(taken, -following), kind="stable")
            chosen = int((order[0] + following) % folds)
            fold_of[member], following = chosen, (chosen + 1) % folds
            taken[chosen] += 1
    without = random.permutation(np.flatnonzero(fold_of < 0))
    fold_of[without] = np.arange(len(without)) % folds
    return fold_of


@contextmanager
def _side_by_side(folds: int) -> Iterator[ThreadPoolExecutor]:
    """Solve folds beside one another, each on one thread.

    NumPy and SciPy bring a BLAS each, with threads of its own that wait busily: with two of each, both on two cores, a
    fit of 1,400 images took four times as long as on one thread.
    """
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(min(folds, cores())) as pool:
        yield pool


class _Space(msgspec.Struct, frozen=True, eq=False):
    """Features, centred, scaled and in no more dimensions than there are images.

    The best weights are sums of multiples of the images' features, so the projection on the space that these span loses
    nothing.
    """

    mean: Floats
    scale: Floats
    basis: Floats | None  # [features, dimensions]

    @classmethod
    def of(cls, features: Floats) -> _Space:
        mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
        centred = features - mean
        scale = np.full_like(mean, np.sqrt(np.square(centred, dtype=np.float64).mean()) or 1.0)
        if len(features) >= features.shape[1]:
            return cls(mean, scale, None)
        _, lengths, directions = np.linalg.svd(centred / scale, full_matrices=False)
        return cls(mean, scale, np.ascontiguousarray(directions[lengths > lengths.max() * 1e-6].T))

    def points(self, features: Floats) -> Floats:
        scaled: Floats = (features - self.mean) / self.scale
        return scaled if self.basis is None else scaled @ self.basis

    def unprojected(self, weight: Floats, bias: Floats) -> tuple[Floats, Floats]:
        """The weight and bias that do the same to features."""
        whole = (weight if self.basis is None else weight @ self.basis.T) / self.scale
        return whole.astype(np.float32), (bias - whole @ self.mean).astype(np.float32)


class _Problem(msgspec.Struct, frozen=True, eq=False):
    """The images of one fit: points float32[N, dimensions], and the targets of their logits."""

    points: Floats
    truth: Floats
    several: bool
    offset: Floats  # [classes], added to the logits
    importance: Floats  # [N], 1 on average

    @classmethod
    def of(cls, points: Floats, truth: NDArray[np.bool_], several: bool, balance: Balance) -> _Problem:
        offset = np.zeros(truth.shape[1], np.float32)
        if balance == "loss" and not several:
            offset = np.log(np.maximum(truth.mean(axis=0), 1e-9)).astype(np.float32)
        weights = _importance(truth, several, balance if balance == "sampler" else "none")
        return cls(points, truth.astype(np.float32), several, offset, weights.astype(np.float32))

    def parts(self, solution: NDArray[np.float64]) -> tuple[Floats, Floats]:
        """Weight [classes, dimensions] and bias [classes] of the vector that is optimised."""
        table = solution.astype(np.float32).reshape(self.truth.shape[1], -1)
        return table[:, :-1], table[:, -1]

    def logits(self, points: Floats, solution: NDArray[np.float64]) -> Floats:
        weight, bias = self.parts(solution)
        return points @ weight.T + bias

    def solve(self, start: NDArray[np.float64] | None, strength: float, tolerance: float) -> NDArray[np.float64]:
        if start is None:
            start = np.zeros((self.truth.shape[1], self.points.shape[1] + 1)).ravel()
        found = optimize.minimize(
            self._objective, start, (strength,), "L-BFGS-B", jac=True,
            options={"maxiter": _ITERATIONS, "ftol": tolerance, "gtol": 1e-5},
        )  # fmt: skip
        solution: NDArray[np.float64] = found.x
        return solution

    def _objective(self, solution: NDArray[np.float64], strength: float) -> tuple[float, NDArray[np.float64]]:
        weight, bias = self.parts(solution)
        logits = self.points @ weight.T + bias + self.offset
        predicted = special.expit(logits) if self.several else special.softmax(logits, axis=1)
        errors = (predicted - self.truth) * (self.importance / len(self.points))[:, None]
        loss = self.importance @ _losses(logits, self.truth > 0, self.several) / len(self.points)
        gradient = np.empty((len(bias), weight.shape[1] + 1))
        gradient[:, :-1] = errors.T @ self.points + strength * weight
        gradient[:, -1] = errors.sum(axis=0)
        return float(loss) + strength / 2 * float(np.square(weight, dtype=np.float64).sum()), gradient.ravel()


def _losses(logits: Floats, truth: NDArray[np.bool_], several: bool) -> NDArray[np.float64]:
    """The cross-entropy of each image, float64[N]."""
    values = logits.astype(np.float64)
    if several:
        return np.asarray(np.logaddexp(0, np.where(truth, -values, values)).sum(axis=1))
    losses: NDArray[np.float64] = -special.log_softmax(values, axis=1)[truth]
    return losses


def _importance(truth: NDArray[np.bool_], several: bool, balance: Balance) -> NDArray[np.float64]:
    """The weight of each image, float64[N], 1 on average: the same, or the same in total for all classes."""
    if several or balance == "none":
        return np.ones(len(truth))
    counts = truth.sum(axis=0)
    return np.asarray((truth / (np.maximum(counts, 1) * len(counts))).sum(axis=1) * len(truth))
