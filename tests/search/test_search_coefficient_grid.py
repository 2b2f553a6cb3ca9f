"""STEP 1's grid: which points are in, and which give the same network."""

from __future__ import annotations

from decimal import Decimal

import pytest

from compoundnet.arch import Coefficients, compound, network
from compoundnet.base import CompoundNetError
from compoundnet.search.coefficients.grid import DEFAULT_GRID, DEFAULT_TOLERANCE, parse_grid, points, within


def test_the_papers_answer_lies_on_the_default_grid() -> None:
    assert (Decimal("1.2"), Decimal("1.1"), Decimal("1.15")) in within(DEFAULT_GRID, DEFAULT_TOLERANCE)


def test_every_point_keeps_the_constraint() -> None:
    for alpha, beta, gamma in within(DEFAULT_GRID, DEFAULT_TOLERANCE):
        assert abs(alpha * beta**2 * gamma**2 - 2) <= Decimal("0.1")
        assert min(alpha, beta, gamma) >= 1


def test_a_point_on_the_edge_of_the_tolerance_is_in() -> None:
    # 1 * 1.15^2 * 1.2^2 = 1.9044 in decimals; binary arithmetic puts it a little further from 2.
    assert abs(1.15**2 * 1.2**2 - 2) > 0.0956
    edge = (Decimal("1.0"), Decimal("1.15"), Decimal("1.2"))
    assert edge in within(DEFAULT_GRID, "0.0956")
    assert edge not in within(DEFAULT_GRID, "0.0955999")


def test_both_ends_of_the_grid_are_in_it() -> None:
    assert parse_grid("1.0:1.4:0.1") == tuple(map(Decimal, ("1.0", "1.1", "1.2", "1.3", "1.4")))
    assert parse_grid("1:1.35:0.1")[-1] == Decimal("1.3")


def test_points_of_one_network_are_merged_and_named() -> None:
    base = network("efficientnet-b0")
    found = points(base, DEFAULT_GRID, DEFAULT_TOLERANCE, 1.0)
    networks = {point.network.replace(name="n", scaling=None) for point in found}
    assert len(networks) == len(found)
    assert len(found) + sum(len(point.merged) for point in found) == len(within(DEFAULT_GRID, DEFAULT_TOLERANCE))
    for point in found:
        for other in point.merged:
            same = compound(base, 1.0, other)
            assert same.replace(name="n", scaling=None) == point.network.replace(name="n", scaling=None)
            # The one that is kept is the nearest to doubling the cost.
            assert abs(point.coefficients.growth - 2) <= abs(other.growth - 2) + 1e-9


def test_an_empty_grid_names_its_nearest_point() -> None:
    with pytest.raises(CompoundNetError, match=r"nearest is alpha 1.1, beta 1.1, gamma 1.1, with 1.61051.*0.38949$"):
        within("1.0:1.1:0.05", "0.1")
    assert within("1.0:1.1:0.05", "0.38949")


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ("1.0-1.4", "LOW:HIGH:STEP"),
        ("1.0:1.4", "LOW:HIGH:STEP"),
        ("0.9:1.4:0.1", "at least 1"),
        ("1.4:1.0:0.1", "HIGH"),
        ("1.0:1.4:0", "above 0"),
        ("nan:1.4:0.1", "expected"),
        ("1:1000:0.01", "at most"),
    ],
)
def test_a_grid_that_is_none(grid: str, message: str) -> None:
    with pytest.raises(CompoundNetError, match=message):
        parse_grid(grid)


def test_a_tolerance_that_is_none() -> None:
    with pytest.raises(CompoundNetError, match="tolerance"):
        within(DEFAULT_GRID, "-0.1")
    with pytest.raises(CompoundNetError, match="tolerance"):
        within(DEFAULT_GRID, "little")


def test_coefficients_are_the_decimals_that_were_given() -> None:
    found = {point.coefficients for point in points(network("efficientnet-b0"), "1.0:1.4:0.1", "0.1", 1.0)}
    assert Coefficients(1.2, 1.2, 1.1) in found or Coefficients(1.4, 1.2, 1.0) in found


def test_a_grid_may_have_one_value_and_at_most_101() -> None:
    assert parse_grid("1.2:1.2:0.1") == (Decimal("1.2"),)
    assert len(parse_grid("1:11:0.1")) == 101
    with pytest.raises(CompoundNetError, match="has 102 values a coefficient; at most 101"):
        parse_grid("1:11.1:0.1")


@pytest.mark.parametrize("tolerance", ["-0.5", "-0.001", "inf", "nan", "much"])
def test_a_tolerance_is_a_number_of_at_least_0(tolerance: str) -> None:
    with pytest.raises(CompoundNetError, match="the tolerance must be a number of at least 0"):
        within("1:2:0.5", tolerance)


def test_a_tolerance_may_be_0() -> None:
    assert within("1:2:0.5", "0") == ((Decimal(2), Decimal(1), Decimal(1)),)


def test_a_point_that_stands_for_itself_alone_has_no_note() -> None:
    found = points(network("efficientnet-b0"), "1:1.3:0.1", "0.1", 1.0)
    assert all(bool(point.note) == bool(point.merged) for point in found) and not all(point.merged for point in found)
