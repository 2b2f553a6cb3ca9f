"""Statistics of an accuracy over a few seeds: means, standard errors, confidence intervals of means and differences.

The variance between seeds is the noise of training. If it is unknown (one seed, or seeds with exactly the
same accuracy), only the noise from the limited number of judged images is known: the binomial standard error.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import msgspec

from compoundnet.base import check

CONFIDENCE = 0.95


class AccuracySample(msgspec.Struct, frozen=True):
    """Accuracies of one network, each a fraction, one for each seed; each judged on `images` images."""

    accuracies: tuple[float, ...]
    images: int

    def __post_init__(self) -> None:
        check(len(self.accuracies) >= 1, "a sample needs at least one accuracy")
        check(self.images >= 1, f"a sample needs at least one image, got {self.images}")


class Interval(msgspec.Struct, frozen=True):
    """A value with its standard error and a confidence interval around it."""

    mean: float
    error: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or -1 if the whole interval is positive or negative; 0 if it contains zero (maybe noise)."""
        return 1 if self.low > 0 else -1 if self.high < 0 else 0


def mean(accuracies: Sequence[float]) -> float:
    """Return the mean over seeds."""
    return statistics.fmean(accuracies)


def standard_error(sample: AccuracySample) -> float:
    """Return the standard error of the mean over seeds; the binomial one if the seeds show no variance."""
    return math.sqrt(_variance(sample)[0])


def interval(sample: AccuracySample, confidence: float = CONFIDENCE) -> Interval:
    """Return the interval of the mean: Student's t over seeds; Wilson's binomial one if the seeds show no variance."""
    from scipy import stats  # noqa: PLC0415  takes a second, which reading a finished study does not need

    variance, freedom = _variance(sample)
    middle, error = mean(sample.accuracies), math.sqrt(variance)
    if math.isfinite(freedom):
        low, high = stats.t.interval(confidence, freedom, middle, error)
    else:
        right = stats.binomtest(round(middle * sample.images), sample.images)
        low, high = right.proportion_ci(confidence, "wilson")
    return Interval(middle, error, max(0.0, float(low)), min(1.0, float(high)))


def difference(first: AccuracySample, second: AccuracySample, confidence: float = CONFIDENCE) -> Interval:
    """Return the mean of the first minus the mean of the second, with Welch's interval (unequal variances)."""
    return combination((1.0, first), (-1.0, second), confidence=confidence)


def combination(*terms: tuple[float, AccuracySample], confidence: float = CONFIDENCE) -> Interval:
    """Return the sum of weight times mean over independent samples, with Welch-Satterthwaite degrees of freedom.

    scipy computes Welch's interval for two samples of several seeds each; here there may be more samples, with weights
    and with a single seed. The sum of no samples is 0, without noise.
    """
    if not terms:
        return Interval(0.0, 0.0, 0.0, 0.0)
    from scipy import stats  # noqa: PLC0415  slow to import, as above

    parts = [(weight**2 * _variance(sample)[0], _variance(sample)[1]) for weight, sample in terms]
    variance = sum(part for part, _ in parts)
    shares = sum(part**2 / freedom for part, freedom in parts)
    value = sum(weight * mean(sample.accuracies) for weight, sample in terms)
    error = math.sqrt(variance)
    low, high = stats.t.interval(confidence, variance**2 / shares if shares else math.inf, value, error)
    return Interval(value, error, float(low), float(high))


def _variance(sample: AccuracySample) -> tuple[float, float]:
    """Return the variance of the mean and its degrees of freedom, infinitely many for the binomial variance."""
    values = sample.accuracies
    spread = statistics.variance(values) if len(values) > 1 else 0.0
    if spread > 0:
        return spread / len(values), len(values) - 1.0
    # Two hits and two misses are added (Agresti & Coull 1998), so that an accuracy of 100 % still has an error.
    share = (mean(values) * sample.images + 2) / (sample.images + 4)
    return share * (1 - share) / sample.images, math.inf


def percent(accuracy: Interval | None) -> str:
    """Return an accuracy with its interval, as `61.20 % (60.91 to 61.49)`."""
    if accuracy is None:
        return ""
    return f"{accuracy.mean:.2%} ({100 * accuracy.low:.2f} to {100 * accuracy.high:.2f})"


def points(gap: Interval | None) -> str:
    """Return a difference in percentage points with its interval, as `+1.20 (+0.80 to +1.60)`."""
    if gap is None:
        return ""
    return f"{100 * gap.mean:+.2f} ({100 * gap.low:+.2f} to {100 * gap.high:+.2f})"
