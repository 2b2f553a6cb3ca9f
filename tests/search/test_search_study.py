"""Scaling studies: their networks, and what they conclude from made-up accuracies."""

from __future__ import annotations

import csv
import io
import math
import random
from collections.abc import Callable

import msgspec
import pytest
from small_train import small_network
from told_study import Numbered, told_trials

from compoundnet.arch import Coefficients, cost, fast_scaling, known_rules, network, own_rule
from compoundnet.base import CompoundNetError, decode_toml
from compoundnet.search.kinds import decode
from compoundnet.search.study.findings import find, result
from compoundnet.search.study.lines import (
    FigureNumber,
    StudyLine,
    StudyLines,
    at_budgets,
    label,
    paper_lines,
    scaled,
    with_rule,
)
from compoundnet.search.study.observations import Observation
from compoundnet.search.study.settings import ScalingStudy
from compoundnet.search.study.summary import StudySummary, comma_separated, summarise
from compoundnet.train import find_recipe, override
from compoundnet.trials.measurement import TrainingJob


def study(
    figure: FigureNumber, *, seeds: int = 3, budgets: tuple[float, ...] = (), lines: StudyLines | None = None
) -> ScalingStudy:
    base = small_network()
    chosen = lines or paper_lines(figure)
    if budgets:
        chosen = at_budgets(base, chosen, budgets)
    return ScalingStudy(figure, base, chosen, "greys", override(find_recipe("quick"), ["steps=2", "batch=8"]), seeds)


def curve(
    gain: Callable[[float], float], balanced: float = 0.0, noise: float = 0.001
) -> Callable[[TrainingJob], float]:
    """Accuracy that grows with the logarithm (base 2) of the cost; more where more than one dimension is scaled."""
    base, draw = cost(small_network()).macs, random.Random(0)

    def accuracy(job: TrainingJob) -> float:
        scaling = job.network.scaling
        dimensions = (scaling.depth, scaling.width, scaling.resolution) if scaling else ()
        extra = balanced if sum(value != 1 for value in dimensions) > 1 else 0.0
        return 0.5 + gain(math.log2(cost(job.network).macs / base)) + extra + draw.gauss(0, noise)

    return accuracy


def conclude(search: ScalingStudy, accuracy: Callable[[TrainingJob], float]) -> tuple[Observation, ...]:
    return summarise(search, told_trials(search, accuracy)).observations


def saturating(doublings: float) -> float:
    return 0.2 * (1 - math.exp(-doublings))


def test_figure_8_is_table_7_of_the_paper() -> None:
    places = study(8).places()
    assert [(place.line, place.multipliers) for place in places] == [
        ("", (1, 1, 1)), ("width", (1, 2, 1)), ("depth", (4, 1, 1)), ("resolution", (1, 1, 2)),
        ("compound", (1.4, 1.2, 1.3)),
    ]  # fmt: skip
    assert places[0].network == small_network()


def test_figure_3_scales_one_dimension_at_a_time_by_the_papers_multipliers() -> None:
    lines = {line.name: [max(point) for point in line.points] for line in paper_lines(3).lines}
    assert lines == {
        "width": [1.4, 1.8, 2.6, 3.8, 5.0], "depth": [2, 3, 4, 6, 8], "resolution": [1.3, 1.5, 1.7, 1.9, 2.2, 2.5],
    }  # fmt: skip
    assert all(sorted(point)[:2] == [1, 1] for line in paper_lines(3).lines for point in line.points)


def test_figure_4_scales_width_on_four_baselines() -> None:
    assert {point[::2] for line in paper_lines(4).lines for point in line.points} == {
        (1, 1), (2, 1), (1, 1.3), (2, 1.3)
    }  # fmt: skip


def test_budgets_are_met_by_every_way_of_scaling() -> None:
    base = network("efficientnet-b0")
    for line in at_budgets(base, paper_lines(8), (2, 4)).lines:
        for budget, point in zip((2, 4), line.points, strict=True):
            assert cost(scaled(base, point)).macs / cost(base).macs == pytest.approx(budget, rel=0.1)


@pytest.mark.parametrize("budget", [1.0, 0.5, math.inf, math.nan])
def test_a_budget_that_is_no_multiple_above_one_is_refused(budget: float) -> None:
    with pytest.raises(CompoundNetError, match="above 1"):
        at_budgets(small_network(), paper_lines(8), (budget,))


def test_each_network_is_trained_once_with_each_seed_and_a_first_round_has_all() -> None:
    search = study(8, seeds=2)
    jobs = [search.propose(Numbered(number)) for number in range(search.trials())]  # type: ignore[arg-type]  # its number is all that is asked
    assert [job.seed for job in jobs] == [0] * 5 + [1] * 5
    assert len({(job.network, job.seed) for job in jobs}) == 10
    assert {job.judged_on for job in jobs} == {"test"}


def test_networks_that_round_to_the_same_are_trained_once() -> None:
    lines = decode_toml(
        'title = "t"\nsource = "s"\n[[lines]]\nname = "width"\npoints = [[1, 1.01, 1], [1, 1.02, 1], [1, 2, 1]]',
        StudyLines,
        "x",
    )
    search = study(3, lines=lines)
    assert [place.multipliers for place in search.places()] == [(1, 1, 1), (1, 2, 1)]
    assert [place.multipliers for place in search.curve("width")] == [(1, 1, 1), (1, 2, 1)]


@pytest.mark.parametrize("figure", [3, 4, 8])
def test_a_study_survives_its_storage(figure: FigureNumber) -> None:
    search = study(figure, budgets=(2, 4) if figure == 8 else ())
    assert decode(msgspec.json.encode(search)) == search


def test_a_line_is_matched_to_budgets_in_the_direction_of_its_last_point() -> None:
    base = network("efficientnet-b0")
    lines = StudyLines("t", "s", (StudyLine("bent", ((2, 1, 1), (1, 2, 1))),))
    ((depth, width, resolution),) = at_budgets(base, lines, (3,)).lines[0].points
    assert (depth, resolution) == (1, 1) and 1.7 < width < 1.8
    assert width == round(width, 4) != round(width, 3)


def test_multipliers_in_words() -> None:
    assert label((1.4, 1, 1.3)) == "d=1.4, r=1.3"
    assert label((1, 1.25, 1)) == "w=1.25" and label((2, 2, 2)) == "d=2, w=2, r=2"
    assert label((1, 1, 1)) == "baseline"


def test_saturating_curves_show_observation_1() -> None:
    (first,) = conclude(study(3), curve(saturating))
    assert first.holds
    assert len(first.findings) == 6


def test_curves_that_keep_rising_do_not_diminish() -> None:
    (first,) = conclude(study(3), curve(lambda doublings: 0.02 * doublings**2))
    assert first.holds is False
    assert "the gain grows" in first.verdict


def test_flat_curves_are_called_noise() -> None:
    (first,) = conclude(study(3), curve(lambda _: 0.0, noise=0.02))
    assert first.holds is None
    assert "noise" in first.verdict


def test_a_better_balanced_network_shows_observation_2() -> None:
    _, second = conclude(study(8, budgets=(2, 4, 8)), curve(saturating, balanced=0.03))
    assert second.holds
    assert [finding.what.split()[2].rstrip(",") for finding in second.findings] == ["width", "depth", "resolution"]


def test_other_ways_to_scale_several_dimensions_are_reported_and_do_not_decide() -> None:
    lines = paper_lines(8)
    other = StudyLine("other", ((1.6, 1.3, 1.1),))
    lines = StudyLines(lines.title, lines.source, (*lines.lines[:3], other, lines.lines[3]))
    first, second = conclude(study(8, budgets=(2, 4, 8), lines=lines), curve(saturating, balanced=0.03))
    assert second.holds
    assert [finding.what.split()[2].rstrip(",") for finding in second.findings][-1] == "other"
    assert second.findings[-1].difference.mean == pytest.approx(0, abs=0.01)
    assert not any(finding.what.startswith("other") for finding in first.findings)


def test_a_worse_balanced_network_denies_observation_2() -> None:
    _, second = conclude(study(8, budgets=(2, 4, 8)), curve(saturating, balanced=-0.1))
    assert second.holds is False


def test_figure_4_compares_width_on_the_balanced_baseline_at_equal_cost() -> None:
    """Accuracy follows the cost alone, but for 0.05 on baselines with more than their width scaled."""
    _, second = conclude(study(4), curve(lambda doublings: 0.02 * doublings, balanced=0.05))
    assert second.holds
    assert second.findings[0].difference.mean == pytest.approx(0.05, abs=0.01)


def test_one_seed_concludes_nothing_however_large_the_differences() -> None:
    observations = conclude(study(8, seeds=1), curve(saturating, balanced=0.2))
    assert [one.holds for one in observations] == [None, None]
    assert all("single seed" in one.verdict for one in observations)


def test_a_rule_adds_a_line_of_the_same_costs_that_does_not_decide() -> None:
    base = network("efficientnet-b0")
    lines = with_rule(base, at_budgets(base, paper_lines(8), (2, 4)), known_rules()["fast"])
    *_, fast, balanced = lines.lines
    assert [line.name for line in lines.lines] == ["width", "depth", "resolution", "fast", "compound"]
    for ours, theirs in zip(fast.points, balanced.points, strict=True):
        assert cost(scaled(base, ours)).macs == pytest.approx(cost(scaled(base, theirs)).macs, rel=0.1)
        assert ours[1] > theirs[1] and ours[2] < theirs[2]
    small = with_rule(small_network(), at_budgets(small_network(), paper_lines(8), (2, 4, 8)), known_rules()["fast"])
    flat = "fast", 0.2  # better than balanced scaling: reported, and no verdict on single dimensions

    def accuracy(job: TrainingJob) -> float:
        own = flat[1] if job.point.startswith(flat[0]) else 0.0
        return curve(saturating, balanced=0.03)(job) + own

    _, second = conclude(study(8, lines=small), accuracy)
    assert second.holds
    assert [finding.what.split()[2].rstrip(",") for finding in second.findings] == [
        "width", "depth", "resolution", "fast",
    ]  # fmt: skip
    assert second.findings[-1].difference.mean < 0


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_an_added_rule_decides_nothing_whatever_it_and_the_other_lines_scale(share: float) -> None:
    """With a share of 1 it scales width alone; without a line of one dimension, all lines of one's own decide."""
    base, rule = small_network(), fast_scaling(share)
    several = StudyLines("t", "s", (StudyLine("both", ((1.5, 1.5, 1),)), StudyLine("balanced", ((1.4, 1.2, 1.3),))))
    for lines in (paper_lines(8), several):
        search = study(8, lines=with_rule(base, lines, rule))
        assert decode(msgspec.json.encode(search)) == search

        def accuracy(job: TrainingJob) -> float:
            own = 0.3 if job.point.startswith(rule.name) else 0.1 if job.point.startswith(("com", "bal")) else 0.0
            return 0.5 + own + 0.001 * job.seed

        first, second = conclude(search, accuracy)
        assert second.holds and second.findings[-1].what.startswith(f"balanced less {rule.name}")
        assert second.findings[-1].difference.high < 0
        assert not any(finding.what.startswith(rule.name) for finding in first.findings)


def test_a_line_without_one_of_the_budgets_is_compared_at_its_own_cost() -> None:
    """Depth reaches the second budget alone; it is not compared with the first."""
    at = at_budgets(small_network(), paper_lines(8), (2, 8))
    short = tuple(
        msgspec.structs.replace(line, points=line.points[1:]) if line.name == "depth" else line for line in at.lines
    )
    search = study(8, lines=StudyLines(at.title, at.source, short))
    trials = told_trials(search, curve(lambda doublings: 0.1 * doublings, balanced=0.03))
    summary = summarise(search, trials)
    gaps = {finding.what: finding.difference.mean for finding in summary.observations[1].findings}
    whole = study(8, lines=at)
    both = conclude(whole, curve(lambda doublings: 0.1 * doublings, balanced=0.03))[1].findings
    assert gaps["balanced less depth"] == pytest.approx(0.03, abs=0.03)
    assert gaps["balanced less width, mean over 2 budgets"] == pytest.approx(both[0].difference.mean, abs=0.002)
    assert "depth has 1 point and compound has 2 points: those of nearest cost are compared." in summary.notes


def test_a_network_that_is_nearest_to_two_budgets_is_said() -> None:
    search = study(8, budgets=(1.5, 1.55))
    notes = summarise(search, told_trials(search, curve(saturating))).notes
    assert "depth: 2 points give 1 network after rounding." in notes


def test_a_rule_that_cannot_be_a_line_is_refused() -> None:
    base = small_network()
    with pytest.raises(CompoundNetError, match="tiny only makes networks smaller"):
        with_rule(base, paper_lines(8), known_rules()["tiny"])
    with pytest.raises(CompoundNetError, match="a line named 'compound' without --rule"):
        with_rule(base, paper_lines(8), known_rules()["compound"])
    assert with_rule(base, paper_lines(8), own_rule(Coefficients())).lines[-2].name == "coefficients"


@pytest.mark.parametrize("figure", [3, 4, 8])
def test_a_single_line_of_ones_own_has_nothing_to_be_compared_with(figure: FigureNumber) -> None:
    text = 'title = "t"\nsource = "s"\n[[lines]]\nname = "width"\npoints = [[1, 2, 1], [1, 3, 1]]'
    search = study(figure, seeds=2, lines=decode_toml(text, StudyLines, "x"))
    summary = summarise(search, told_trials(search, curve(saturating)))
    assert [one.holds for one in summary.observations if one.number == 2] == ([] if figure == 3 else [None])


def test_lines_that_share_a_network_are_named() -> None:
    shared = StudyLines("t", "s", (StudyLine("wide", ((1, 1.5, 1),)), StudyLine("balanced", ((1, 1.501, 1),))))
    summary = summarise(study(8, lines=shared), [])
    assert [row.line for row in summary.rows] == ["baseline", "wide"]
    assert "balanced w=1.501 is the network of wide w=1.5 after rounding, trained once." in summary.notes


def test_costs_that_are_not_equal_are_said() -> None:
    search = study(8, seeds=2)
    macs = {cost(place.network).macs for place in search.places()[1:]}
    assert max(macs) > 1.1 * min(macs)
    notes = summarise(search, told_trials(search, curve(saturating))).notes
    assert any("Costs of one budget differ" in note for note in notes)


def test_trainings_that_diverged_are_left_out_and_said() -> None:
    search = study(8, seeds=2)
    trials = told_trials(search, lambda job: -1 if job.seed and "width" in job.point else 0.5)
    summary = summarise(search, trials)
    assert [len(row.accuracies) for row in summary.rows] == [2, 1, 2, 2, 2]
    assert "1 training diverged and is left out." in summary.notes
    width = next(row for row in find(search, trials).ranking if row.point.startswith("width"))
    assert (width.accuracy, width.diverged) == (0.5, 1), "in the ranking of --json too"


def test_the_table_has_every_network_before_any_is_finished() -> None:
    search = study(8)
    summary = summarise(search, [])
    assert [row.accuracy for row in summary.rows] == [None] * 5
    assert len(list(csv.DictReader(io.StringIO(comma_separated(summary.rows))))) == 5
    with pytest.raises(CompoundNetError, match="no trial"):
        result(search, [])


def test_where_every_training_diverged_the_rate_is_named() -> None:
    search = study(8)
    with pytest.raises(CompoundNetError, match=r"every training diverged.* \(--set lr=[0-9.]+\) and another output"):
        result(search, told_trials(search, lambda _: -1))


def test_result_toml_holds_what_was_found() -> None:
    search = study(8, seeds=2)
    trials = told_trials(search, curve(saturating))
    assert decode_toml(result(search, trials), StudySummary, "result.toml") == summarise(search, trials)


def test_the_limits_of_a_budget() -> None:
    width = StudyLines("t", "s", (paper_lines(8).lines[0],))
    for budget in (1.0001, 1e4):
        assert len(at_budgets(network("efficientnet-b0"), width, [budget, 2, 2]).lines[0].points) == 2
    with pytest.raises(CompoundNetError, match="above 1; got"):
        at_budgets(small_network(), width, [10_001])


def test_budgets_are_sorted_named_and_met_by_the_nearest_multiplier() -> None:
    """Along the direction of (1, 2, 1) no width of four decimals is nearer to the cost than the one that is taken."""
    base = network("efficientnet-b0")
    lines = StudyLines("t", "s", (StudyLine("width", ((1, 2, 1),)),))
    found = at_budgets(base, lines, [4, 2.5])
    assert found.source == "s; multipliers matched to 2.5, 4 times the baseline's cost"
    for (_, width, _), budget in zip(found.lines[0].points, (2.5, 4), strict=True):
        wanted = math.log(budget * cost(base).macs)
        off = {one: abs(math.log(cost(scaled(base, (1, width + one, 1))).macs) - wanted) for one in (-0.002, 0, 0.002)}
        assert off[0] == min(off.values())


def test_a_cost_that_a_direction_does_not_reach_is_an_error() -> None:
    lines = StudyLines("t", "s", (StudyLine("hardly", ((1, 1.001, 1),)),))
    with pytest.raises(CompoundNetError, match=r"scaling by \(1, 1.001, 1\) does not reach"):
        at_budgets(small_network(), lines, [50])


def test_multipliers_of_a_network() -> None:
    base = network("efficientnet-b0")
    assert scaled(base, (1, 1, 1)) is base
    assert scaled(base, (1, 1, 8)).resolution == 8 * 224
    assert scaled(base, (1, 1, 8.5)).resolution == 1904, "more than a factor of 8 is given in pixels"
    assert scaled(base, (2, 1, 1)).stages[1].repeats == 4


def test_lines_need_points_and_names() -> None:
    with pytest.raises(ValueError, match="holds no point"):
        StudyLine("empty", ())
    with pytest.raises(ValueError, match="at least one line"):
        StudyLines("t", "s", ())
    with pytest.raises(ValueError, match="a different name, got a, a"):
        StudyLines("t", "s", (StudyLine("a", ((1, 1, 1),)), StudyLine("a", ((1, 2, 1),))))
