"""The two observations on curves of a few networks, by hand."""

from __future__ import annotations

import random

import msgspec
import pytest

from compoundnet.search.study.observations import CostedSample, at_cost, first, second, second_on_curves
from compoundnet.trials.statistics import AccuracySample, Interval, combination


def dot(macs: int, accuracy: float, spread: float = 0.001) -> CostedSample:
    """A network with two seeds, whose accuracies differ by twice the spread."""
    return CostedSample(macs, AccuracySample((accuracy - spread, accuracy + spread), 1000))


def test_the_accuracy_at_a_cost_lies_on_the_line_between_neighbours() -> None:
    low, middle, high = dot(100, 0.5), dot(400, 0.6), dot(1600, 0.7)
    curve = [high, low, middle]
    twin = dot(100, 0.9)
    assert [weight for weight, _ in at_cost([low, twin, middle], 200)] == pytest.approx([0.5, 0.5])
    assert at_cost([low, twin, middle], 100) == [(1.0, twin.sample)]
    (one, before), (other, after) = at_cost(curve, 200)
    assert (one, other) == pytest.approx((0.5, 0.5)) and (before, after) == (low.sample, middle.sample)
    assert at_cost(curve, 100) == [(1.0, low.sample)]
    assert at_cost(curve, 400) == [(1.0, middle.sample)]
    assert at_cost(curve, 1600) == [(1.0, high.sample)]
    for outside in (99, 1601):
        with pytest.raises(ValueError, match=f"no neighbours at {outside}"):
            at_cost(curve, outside)


def test_a_gain_that_falls_with_each_doubling_diminishes() -> None:
    found = first([("width", [dot(400, 0.65), dot(100, 0.5), dot(200, 0.6)])])
    assert (
        found.number == 1
        and found.holds
        and found.verdict == "It holds here. Every difference is beyond noise (95% confidence)."
    )
    improves, diminishes = found.findings
    assert (improves.what, improves.says) == ("width: 4 times the cost, less its start", "scaling helps")
    assert improves.difference.mean == pytest.approx(0.15)
    assert diminishes.what == "width: gain for each doubling of cost, first half less second"
    assert diminishes.says == "the gain diminishes"
    assert diminishes.difference.mean == pytest.approx(0.1 - 0.05)
    # Two doublings at first, one later.
    slower = first([("width", [dot(100, 0.5), dot(400, 0.6), dot(800, 0.7)])]).findings[1]
    assert slower.says == "the gain grows"
    assert slower.difference.mean == pytest.approx(0.1 / 2 - 0.1)
    # One doubling at first, two later.
    later = first([("width", [dot(100, 0.5), dot(200, 0.6), dot(800, 0.7)])]).findings[1]
    assert later.difference.mean == pytest.approx(0.1 - 0.1 / 2)
    # Of four networks the third is the middle.
    four = first([("width", [dot(100, 0.5), dot(200, 0.6), dot(400, 0.7), dot(800, 0.9)])]).findings[1]
    assert four.difference.mean == pytest.approx(0.2 / 2 - 0.2)
    # A middle that costs no more than the start tells nothing of the gain.
    twins = first([("width", [dot(100, 0.5), dot(100, 0.5), dot(200, 0.6)])])
    assert len(twins.findings) == 1 and twins.verdict.startswith("Scaling helps here")


def test_what_is_against_an_observation_is_listed() -> None:
    found = first([("a", [dot(100, 0.6), dot(200, 0.5)]), ("b", [dot(100, 0.5), dot(200, 0.6), dot(400, 0.9)])])
    assert found.holds is False
    assert found.verdict == (
        "It does not hold here: a: 2 times the cost, less its start: scaling harms; b: gain for each doubling of cost,"
        " first half less second: the gain grows (98.3% confidence)."
    )


def test_noise_one_seed_and_too_few_networks_leave_it_open() -> None:
    noise = first([("a", [dot(100, 0.5, 0.1), dot(200, 0.52, 0.1)]), ("b", [dot(100, 0.5), dot(200, 0.6)])])
    assert noise.holds is None and noise.verdict == (
        "These trainings do not show whether it holds: 1 of 2 differences lie within noise. More seeds or more test"
        " images may decide it."
    )
    assert noise.findings[0].says == "no difference beyond noise"
    two = first([("a", [dot(100, 0.5), dot(200, 0.6)])])
    assert two.holds is None and two.verdict.startswith("Scaling helps here; three networks on a line")
    alone = CostedSample(100, AccuracySample((0.5,), 1000))
    single = first([("a", [alone, dot(200, 0.9)])])
    assert single.holds is None and single.verdict.endswith("with a single seed. More seeds may decide it.")
    for nothing in ([], [("a", [dot(100, 0.5)])], [("a", [dot(100, 0.5), dot(100, 0.6)])]):
        assert first(nothing).verdict == "Not tested: no line has networks of two costs."
        assert first(nothing, finished=False).verdict == "Not tested: too few networks are finished."


def test_one_of_many_differences_on_the_wrong_side_is_not_enough() -> None:
    """Beyond noise by itself, at 95 %, and not among six; of six that are beyond noise at 99.2 %, one is enough."""
    good = [(name, [dot(100, 0.5), dot(200, 0.6)]) for name in "abcde"]
    low, high = dot(100, 0.6, 0.01), dot(200, 0.52, 0.01)
    alone = first([("f", [low, high])])
    assert alone.holds is False and alone.verdict.endswith("scaling harms (95% confidence).")
    many = first([*good, ("f", [low, high])])
    assert many.findings[-1].difference.high < 0 and many.holds is None
    assert many.verdict == (
        "These trainings do not show whether it holds: 1 of 6 differences is on the wrong side, but not at the 99.2%"
        " confidence that so many need. More seeds or more test images may decide it."
    )
    worse = first([*good, ("f", [low, dot(200, 0.4, 0.01)])])
    assert worse.holds is False
    assert worse.verdict.endswith("f: 2 times the cost, less its start: scaling harms (99.2% confidence).")


def test_where_nothing_differs_few_studies_say_that_an_observation_fails() -> None:
    """Of six comparisons at 95 % each, one in seven studies has one on the wrong side."""
    draw = random.Random(0)

    def network(macs: int) -> CostedSample:
        return CostedSample(macs, AccuracySample(tuple(draw.gauss(0.6, 0.01) for _ in range(3)), 1000))

    verdicts = [first([(name, [network(100), network(200)]) for name in "abcdef"]).holds for _ in range(100)]
    assert sum(holds is False for holds in verdicts) <= 0.05 * len(verdicts)


def test_a_network_at_two_budgets_is_one_sample() -> None:
    """The nearest networks to two budgets can be the same: their noise does not average out."""
    ours, theirs = dot(200, 0.62), dot(210, 0.6)
    (once,) = second([("depth", [(ours, theirs)])], {"depth"}).findings
    (twice,) = second([("depth", [(ours, theirs)] * 2)], {"depth"}).findings
    assert twice.difference == once.difference
    shared = dot(190, 0.6)
    (half,) = second([("depth", [(ours, theirs), (shared, theirs)])], {"depth"}).findings
    wanted = combination((0.5, ours.sample), (0.5, shared.sample), (-1.0, theirs.sample))
    assert msgspec.structs.astuple(half.difference) == pytest.approx(msgspec.structs.astuple(wanted))
    (same,) = second([("depth", [(ours, ours)])], {"depth"}).findings
    assert same.difference == Interval(0, 0, 0, 0) and same.says == "no difference beyond noise"


def test_the_balanced_networks_are_compared_at_each_budget() -> None:
    pairs = [(dot(200, 0.62), dot(200, 0.6)), (dot(400, 0.7), dot(400, 0.66))]
    found = second([("width", pairs), ("depth", pairs[:1]), ("empty", [])], {"width", "depth"})
    assert found.number == 2 and found.holds and [finding.what for finding in found.findings] == [
        "balanced less width, mean over 2 budgets", "balanced less depth",
    ]  # fmt: skip
    assert [finding.difference.mean for finding in found.findings] == [pytest.approx(0.03), pytest.approx(0.02)]
    assert {finding.says for finding in found.findings} == {"balanced is better"}
    worse = [(dot(200, 0.5), dot(200, 0.6))]
    assert second([("width", pairs), ("fast", worse)], {"width"}).holds, "another rule decides nothing"
    assert second([("width", pairs), ("depth", worse)], {"width", "depth"}).holds is False
    assert second([("width", pairs), ("depth", worse)], {"width", "depth"}).findings[1].says == "balanced is worse"


def test_curves_are_compared_at_the_highest_cost_that_both_reach() -> None:
    balanced = ("d2", [dot(200_000, 0.6), dot(800_000, 0.7)])
    plain = ("d1", [dot(100_000, 0.5), dot(400_000, 0.6)])
    found = second_on_curves(balanced, [plain, ("r2", [dot(100_000, 0.7), dot(1_600_000, 0.9)])])
    assert [finding.what for finding in found.findings] == [
        "(d2) less (d1) at 0.4M multiply-adds", "(d2) less (r2) at 0.8M multiply-adds",
    ]  # fmt: skip
    # Halfway between 0.6 and 0.7, less 0.6; and 0.7 less three quarters of the way from 0.7 to 0.9.
    assert [finding.difference.mean for finding in found.findings] == [pytest.approx(0.05), pytest.approx(-0.15)]
    assert found.number == 2 and found.holds, "the first rival alone decides"
    single = CostedSample(1_600_000, AccuracySample((0.9,), 1000))
    assert second_on_curves(balanced, [plain, ("r2", [dot(100_000, 0.7), single])]).holds
    huge = ("d1", [dot(10**11, 0.5), dot(10**12, 0.6)])
    (finding,) = second_on_curves(("d2", [dot(10**11, 0.6), dot(10**12, 0.7)]), [huge]).findings
    assert finding.what == "(d2) less (d1) at 1,000,000.0M multiply-adds"


def test_curves_without_a_common_cost_are_not_compared() -> None:
    balanced = ("d2", [dot(200, 0.6), dot(800, 0.7)])
    for rival in ([dot(100, 0.5)], [dot(300, 0.5)], [dot(50, 0.5), dot(199, 0.6)], [dot(801, 0.5), dot(900, 0.6)]):
        assert second_on_curves(balanced, [("d1", rival)]).verdict.startswith("Not tested")
    assert second_on_curves(("d2", [dot(200, 0.6)]), [("d1", [dot(100, 0.5), dot(300, 0.6)])]).findings == ()
    few = second_on_curves(balanced, [("d1", [dot(300, 0.5)])])
    assert few.verdict == "Not tested: the lines (d1) and (d2) need two networks each, and a cost that both reach."
    unfinished = second_on_curves(balanced, [("d1", [dot(300, 0.5)])], finished=False)
    assert unfinished.verdict == "Not tested: too few networks are finished."
    assert second_on_curves(balanced, []).verdict == "Not tested: there is no other line to compare with."
    touching = second_on_curves(balanced, [("d1", [dot(50, 0.5), dot(200, 0.5)])])
    assert touching.holds and touching.findings[0].difference.mean == pytest.approx(0.1)
