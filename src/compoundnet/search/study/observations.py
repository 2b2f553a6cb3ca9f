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

import msgspec

from compoundnet.trials.statistics import CONFIDENCE, AccuracySample, Interval, combination, difference


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


def first(curves: Sequence[tuple[str, Sequence[CostedSample]]]) -> Observation:
    """Judge Observation 1 on each curve: its last network against its first, and the gain for each doubling of cost
    in the first half against that in the second half."""
    improvements, changes = [], []
    for name, unordered in curves:
        dots = sorted(unordered, key=lambda dot: dot.macs)
        low, middle, high = dots[0], dots[len(dots) // 2], dots[-1]
        if low.macs < high.macs:
            improvements.append(_improves(name, low, high))
        if low.macs < middle.macs < high.macs:
            changes.append(_diminishes(name, low, middle, high))
    observation = _judge(1, FIRST, improvements + changes, [dot for _, dots in curves for dot in dots])
    if observation.holds and not changes:
        open_ = "Scaling helps here; three networks on a line are needed to show whether its gain diminishes."
        return msgspec.structs.replace(observation, holds=None, verdict=open_)
    return observation


def second(
    pairs: Iterable[tuple[str, Sequence[tuple[CostedSample, CostedSample]]]], decisive: Collection[str]
) -> Observation:
    """Judge Observation 2: the balanced networks against the networks of the same cost of each rival line, with
    differences averaged over the budgets.

    Args:
        pairs: For each rival line, its name and its (balanced, rival) networks, one pair for each budget.
        decisive: The lines that scale one dimension, which the observation is about. The others are reported.
    """
    findings, deciding, dots = [], [], []
    for name, matched in pairs:
        if not matched:
            continue
        share = 1 / len(matched)
        terms = [(sign * share, dot.sample) for pair in matched for sign, dot in zip((1.0, -1.0), pair, strict=True)]
        gap = combination(*terms)
        over = "" if len(matched) == 1 else f", mean over {len(matched)} budgets"
        findings.append(StudyComparison(f"balanced less {name}{over}", gap, _better(gap)))
        if name in decisive:
            deciding.append(findings[-1])
            dots += [dot for pair in matched for dot in pair]
    return msgspec.structs.replace(_judge(2, SECOND, deciding, dots), findings=tuple(findings))


def at_cost(dots: Sequence[CostedSample], macs: float) -> list[tuple[float, AccuracySample]]:
    """Return a curve's accuracy at a cost as weighted samples: linear between neighbours on a logarithmic axis."""
    ordered = sorted(dots, key=lambda dot: dot.macs)
    for lower, upper in itertools.pairwise(ordered):
        if lower.macs <= macs <= upper.macs and lower.macs < upper.macs:
            share = math.log(macs / lower.macs) / math.log(upper.macs / lower.macs)
            return [(weight, dot.sample) for weight, dot in ((1 - share, lower), (share, upper)) if weight]
    raise ValueError(f"no neighbours at {macs}")


def second_on_curves(
    balanced: tuple[str, Sequence[CostedSample]], rivals: Sequence[tuple[str, Sequence[CostedSample]]]
) -> Observation:
    """Judge Observation 2 for unequal costs: width on the balanced baseline against width on the plain one (the first
    rival) at the highest cost that both reach. The other rivals are reported and do not decide."""
    findings, decisive, (name, dots) = [], [], balanced
    for index, (rival, others) in enumerate(rivals):
        if len(dots) < 2 or len(others) < 2:
            continue
        macs = min(max(dot.macs for dot in curve) for curve in (dots, others))
        if macs < max(min(dot.macs for dot in curve) for curve in (dots, others)):
            continue
        gap = combination(*at_cost(dots, macs), *((-weight, sample) for weight, sample in at_cost(others, macs)))
        what = f"({name}) less ({rival}) at {macs / 1e6:,.1f}M multiply-adds"
        findings.append(StudyComparison(what, gap, _better(gap)))
        if index == 0:
            decisive.append(findings[-1])
    others = rivals[0][1] if rivals else ()
    return msgspec.structs.replace(_judge(2, SECOND, decisive, [*dots, *others]), findings=tuple(findings))


def _improves(name: str, low: CostedSample, high: CostedSample) -> StudyComparison:
    gap = difference(high.sample, low.sample)
    says = {1: "scaling helps", -1: "scaling harms", 0: "no difference beyond noise"}[gap.sign]
    return StudyComparison(f"{name}: {high.macs / low.macs:.3g} times the cost, less its start", gap, says)


def _diminishes(name: str, low: CostedSample, middle: CostedSample, high: CostedSample) -> StudyComparison:
    early, late = math.log2(middle.macs / low.macs), math.log2(high.macs / middle.macs)
    gap = combination((1 / early + 1 / late, middle.sample), (-1 / early, low.sample), (-1 / late, high.sample))
    says = {1: "the gain diminishes", -1: "the gain grows", 0: "no change of the gain beyond noise"}[gap.sign]
    return StudyComparison(f"{name}: gain for each doubling of cost, first half less second", gap, says)


def _better(gap: Interval) -> str:
    return {1: "balanced is better", -1: "balanced is worse", 0: "no difference beyond noise"}[gap.sign]


def _judge(
    number: int, statement: str, findings: Sequence[StudyComparison], dots: Sequence[CostedSample]
) -> Observation:
    """An observation holds if every comparison shows it, fails if one shows the opposite, and is open otherwise.

    No correction for the number of comparisons is needed, because each must exceed noise by itself.
    """
    against = [finding for finding in findings if finding.difference.sign < 0]
    noise = [finding for finding in findings if finding.difference.sign == 0]
    if not findings:
        return Observation(number, statement, "Not tested: too few networks are finished.", ())
    if any(len(dot.sample.accuracies) == 1 for dot in dots):
        holds, verdict = None, f"{_NOISE} the noise of training is unknown with a single seed."
    elif against:
        holds, verdict = False, f"{_FAILS} {_list(against)}."
    elif noise:
        holds, verdict = None, f"{_NOISE} {len(noise)} of {len(findings)} differences lie within noise."
    else:
        holds, verdict = True, f"{_HOLDS} Every difference is beyond noise ({CONFIDENCE:.0%} confidence)."
    return Observation(number, statement, verdict, tuple(findings), holds)


def _list(findings: Sequence[StudyComparison]) -> str:
    return "; ".join(f"{finding.what}: {finding.says}" for finding in findings)
