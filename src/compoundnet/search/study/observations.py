"""The test of the paper's two observations on the results of a study.

Observation 1: scaling up any of width, depth, resolution improves accuracy, but the gain diminishes.
Observation 2: for better accuracy at the same cost all three must be balanced.
A difference counts where its confidence interval excludes zero; otherwise it is called noise. Nothing is concluded from
a single seed, because the variance between seeds is unknown.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import msgspec

from compoundnet.trials.statistics import CONFIDENCE, AccuracySample, Interval, combination


class CostedSample(msgspec.Struct, frozen=True):
    """The multiply-adds and the accuracies of a trained network on a curve."""

    macs: int
    sample: AccuracySample


class StudyComparison(msgspec.Struct, frozen=True):
    """One comparison: what was compared, the difference of accuracies, and its meaning in words."""

    what: str
    difference: Interval
    says: str


class Observation(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether an observation holds; None if it is unknown: too few networks, or differences within noise."""

    number: int
    statement: str
    verdict: str
    findings: tuple[StudyComparison, ...]
    holds: bool | None = None


FIRST = "scaling any dimension improves accuracy, but the gain diminishes"
SECOND = "at equal cost, balancing all dimensions is better than scaling one"
_HOLDS, _FAILS, _NOISE = "It holds here.", "It does not hold here:", "These trainings do not show whether it holds:"
_UNFINISHED = "too few networks are finished"
# What the sign of a difference says: of 0, 1 and -1.
_BETTER = ("no difference beyond noise", "balanced is better", "balanced is worse")
_HELPS = ("no difference beyond noise", "scaling helps", "scaling harms")
_DIMINISHES = ("no change of the gain beyond noise", "the gain diminishes", "the gain grows")
# Weights that cancel may differ by rounding.
_ROUNDING = 1e-12


class _Difference(NamedTuple):
    """A difference of weighted accuracies, and its meaning by sign. It supports its observation if it is positive."""

    what: str
    terms: tuple[tuple[float, AccuracySample], ...]
    meanings: tuple[str, str, str]

    def interval(self, confidence: float = CONFIDENCE) -> Interval:
        """The difference. A sample that occurs several times, as of a network at two budgets, is one random number."""
        weights: dict[int, tuple[float, AccuracySample]] = {}
        for weight, sample in self.terms:
            before, _ = weights.get(id(sample), (0.0, sample))
            weights[id(sample)] = before + weight, sample
        kept = [(weight, sample) for weight, sample in weights.values() if abs(weight) > _ROUNDING]
        return combination(*kept, confidence=confidence)

    def comparison(self) -> StudyComparison:
        found = self.interval()
        return StudyComparison(self.what, found, self.meanings[found.sign])


def first(curves: Sequence[tuple[str, Sequence[CostedSample]]], *, finished: bool = True) -> Observation:
    """Judge Observation 1 on each curve: its last network against its first, and the gain for each doubling of cost
    in the first half against that in the second half.

    Args:
        curves: For each line, its name and its trained networks.
        finished: Whether all networks of the study have been trained.
    """
    improvements, changes = [], []
    for name, unordered in curves:
        dots = sorted(unordered, key=lambda dot: dot.macs)
        low, middle, high = dots[0], dots[len(dots) // 2], dots[-1]
        if low.macs < high.macs:
            improvements.append(_improves(name, low, high))
        if low.macs < middle.macs < high.macs:
            changes.append(_diminishes(name, low, middle, high))
    dots = [dot for _, dots in curves for dot in dots]
    untested = "no line has networks of two costs" if finished else _UNFINISHED
    observation = _judge(1, FIRST, improvements + changes, dots, untested)
    if observation.holds and not changes:
        open_ = "Scaling helps here; three networks on a line are needed to show whether its gain diminishes."
        return msgspec.structs.replace(observation, holds=None, verdict=open_)
    return observation


def second(
    pairs: Iterable[tuple[str, Sequence[tuple[CostedSample, CostedSample]]]],
    decisive: Collection[str],
    *,
    finished: bool = True,
) -> Observation:
    """Judge Observation 2: the balanced networks against the networks of the same cost of each rival line, with
    differences averaged over the budgets.

    Args:
        pairs: For each rival line, its name and its (balanced, rival) networks, one pair for each budget.
        decisive: The lines that scale one dimension, which the observation is about. The others are reported.
        finished: As for `first`.
    """
    found, deciding, dots = [], [], []
    for name, matched in pairs:
        if not matched:
            continue
        share = 1 / len(matched)
        terms = tuple(
            (sign * share, dot.sample) for pair in matched for sign, dot in zip((1.0, -1.0), pair, strict=True)
        )
        over = "" if len(matched) == 1 else f", mean over {len(matched)} budgets"
        found.append(_Difference(f"balanced less {name}{over}", terms, _BETTER))
        if name in decisive:
            deciding.append(found[-1])
            dots += [dot for pair in matched for dot in pair]
    untested = "no line that decides has a network to compare with a balanced one" if finished else _UNFINISHED
    return _reporting(found, _judge(2, SECOND, deciding, dots, untested))


def at_cost(dots: Sequence[CostedSample], macs: float) -> list[tuple[float, AccuracySample]]:
    """Return a curve's accuracy at a cost as weighted samples: linear between neighbours on a logarithmic axis."""
    ordered = sorted(dots, key=lambda dot: dot.macs)
    for lower, upper in itertools.pairwise(ordered):
        if lower.macs <= macs <= upper.macs and lower.macs < upper.macs:
            share = math.log(macs / lower.macs) / math.log(upper.macs / lower.macs)
            return [(weight, dot.sample) for weight, dot in ((1 - share, lower), (share, upper)) if weight]
    raise ValueError(f"no neighbours at {macs}")


def second_on_curves(
    balanced: tuple[str, Sequence[CostedSample]],
    rivals: Sequence[tuple[str, Sequence[CostedSample]]],
    *,
    finished: bool = True,
) -> Observation:
    """Judge Observation 2 for unequal costs: width on the balanced baseline against width on the plain one (the first
    rival) at the highest cost that both reach. The other rivals are reported and do not decide.

    Args:
        balanced: The name of the balanced line and its trained networks.
        rivals: The same of the other lines.
        finished: As for `first`.
    """
    found, deciding, (name, dots) = [], [], balanced
    for index, (rival, others) in enumerate(rivals):
        if len(dots) < 2 or len(others) < 2:
            continue
        macs = min(max(dot.macs for dot in curve) for curve in (dots, others))
        if macs < max(min(dot.macs for dot in curve) for curve in (dots, others)):
            continue
        terms = (*at_cost(dots, macs), *((-weight, sample) for weight, sample in at_cost(others, macs)))
        what = f"({name}) less ({rival}) at {macs / 1e6:,.1f}M multiply-adds"
        found.append(_Difference(what, terms, _BETTER))
        if index == 0:
            deciding.append(found[-1])
    if not finished:
        untested = _UNFINISHED
    elif not rivals:
        untested = "there is no other line to compare with"
    else:
        untested = f"the lines ({rivals[0][0]}) and ({name}) need two networks each, and a cost that both reach"
    others = rivals[0][1] if rivals else ()
    return _reporting(found, _judge(2, SECOND, deciding, [*dots, *others], untested))


def _improves(name: str, low: CostedSample, high: CostedSample) -> _Difference:
    what = f"{name}: {high.macs / low.macs:.3g} times the cost, less its start"
    return _Difference(what, ((1.0, high.sample), (-1.0, low.sample)), _HELPS)


def _diminishes(name: str, low: CostedSample, middle: CostedSample, high: CostedSample) -> _Difference:
    early, late = math.log2(middle.macs / low.macs), math.log2(high.macs / middle.macs)
    terms = ((1 / early + 1 / late, middle.sample), (-1 / early, low.sample), (-1 / late, high.sample))
    return _Difference(f"{name}: gain for each doubling of cost, first half less second", terms, _DIMINISHES)


def _judge(
    number: int, statement: str, differences: Sequence[_Difference], dots: Sequence[CostedSample], untested: str
) -> Observation:
    """An observation holds if every difference shows it, fails if one shows the opposite, and is open otherwise.

    To hold, all must exceed noise, which needs no correction for their number. To fail, one is enough, and chance alone
    puts one of many on the wrong side more often than one of one: it must exceed noise at the confidence that makes
    all of them together wrong in at most 1 - CONFIDENCE of studies (Bonferroni).

    Args:
        differences: Those that decide.
        dots: The networks that they compare.
        untested: Why there is no difference, if there is none.
    """
    if not differences:
        return Observation(number, statement, f"Not tested: {untested}.", ())
    found = tuple(one.comparison() for one in differences)
    corrected = 1 - (1 - CONFIDENCE) / len(found)
    wrong = [one for one, comparison in zip(differences, found, strict=True) if comparison.difference.sign < 0]
    against = [one for one in wrong if one.interval(corrected).sign < 0]
    noise = sum(comparison.difference.sign == 0 for comparison in found)
    level = f"{100 * corrected:.3g}% confidence"
    holds: bool | None = None
    if any(len(dot.sample.accuracies) == 1 for dot in dots):
        verdict = f"{_NOISE} the noise of training is unknown with a single seed. More seeds may decide it."
    elif against:
        listed = "; ".join(f"{one.what}: {one.meanings[-1]}" for one in against)
        holds, verdict = False, f"{_FAILS} {listed} ({level})."
    elif noise or wrong:
        open_ = [f"{noise} of {len(found)} differences lie within noise"] if noise else []
        if wrong:
            verb = "is" if len(wrong) == 1 else "are"
            open_.append(
                f"{len(wrong)} of {len(found)} differences {verb} on the wrong side, but not at the {level} that so"
                " many need"
            )
        verdict = f"{_NOISE} {'; '.join(open_)}. More seeds or more test images may decide it."
    else:
        holds, verdict = True, f"{_HOLDS} Every difference is beyond noise ({CONFIDENCE:.0%} confidence)."
    return Observation(number, statement, verdict, found, holds)


def _reporting(differences: Iterable[_Difference], judged: Observation) -> Observation:
    """Return the observation with all differences, also those that did not decide."""
    return msgspec.structs.replace(judged, findings=tuple(one.comparison() for one in differences))
