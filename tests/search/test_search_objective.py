"""ACC * (MACS / T)^w, and targets that a space cannot meet."""

from __future__ import annotations

import math

import pytest
from small_space import small_space

from compoundnet.base import CompoundNetError
from compoundnet.search.architecture.objective import Objective
from compoundnet.search.architecture.space import macs


def test_at_the_target_the_reward_is_the_accuracy() -> None:
    assert Objective(400e6).reward(0.77, 400_000_000) == pytest.approx(0.77)


def test_the_papers_exponent_asks_five_percent_for_twice_the_cost() -> None:
    objective = Objective(400e6)
    assert objective.exponent == -0.07
    assert objective.reward(0.75, 800e6) == pytest.approx(0.75 * 2**-0.07)
    assert objective.reward(1.05 * 0.75, 800e6) == pytest.approx(objective.reward(0.75, 400e6), rel=2e-3)
    assert objective.reward(0.75, 200e6) == pytest.approx(0.75 * 2**0.07)


def test_exponent_zero_ignores_cost() -> None:
    assert Objective(1e6, 0.0).reward(0.5, 1e12) == 0.5


@pytest.mark.parametrize(
    ("target", "exponent", "message"),
    [
        (0.0, -0.07, "the target must be multiply-adds above 0, got 0"),
        (-4e8, -0.07, "above 0, got -4e"),
        (math.inf, -0.07, "above 0, got inf"),
        (4e8, 0.07, r"above 0, cost would be rewarded\), got 0.07"),
        (4e8, math.nan, "the exponent must be from -10 to 0"),
        (4e8, -10.01, "the exponent must be from -10 to 0"),
        (4e8, 1e-9, "the exponent must be from -10 to 0"),
        (math.nan, -0.07, "the target must be multiply-adds above 0"),
    ],
)
def test_impossible_objectives(target: float, exponent: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Objective(target, exponent)


@pytest.mark.parametrize(("target", "exponent"), [(1e-9, 0.0), (4e8, -10.0), (0.5, -0.0)])
def test_objectives_at_the_limits(target: float, exponent: float) -> None:
    assert Objective(target, exponent).reward(0.5, target) == 0.5


def test_a_target_that_the_smallest_network_misses() -> None:
    space = small_space()
    least = macs(space.smallest())
    Objective(least).check_meets(space)
    with pytest.raises(
        CompoundNetError, match=r"no network of the space tiny meets the target of 1\.00k.*smallest has"
    ):
        Objective(1000).check_meets(space)
    with pytest.raises(CompoundNetError, match="a lower resolution"):
        Objective(least - 1).check_meets(space)
