"""The grid of STEP 1: the values of alpha, beta, gamma for which alpha * beta^2 * gamma^2 is near 2 (Eq. 3).

The arithmetic is decimal and exact, so that a point on the edge of the tolerance is included.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from functools import lru_cache
from itertools import product

import msgspec

from compoundnet.arch import Coefficients, Network, compound
from compoundnet.base import CompoundNetError

DEFAULT_GRID, DEFAULT_TOLERANCE = "1.0:1.4:0.05", "0.1"
_TARGET = Decimal(2)
_MOST = 101  # values of one coefficient; listing the cube of a larger number takes too long


class CoefficientPoint(msgspec.Struct, frozen=True):
    """Coefficients and the network scaled by them. `merged`: other points that round to the same network."""

    coefficients: Coefficients
    network: Network
    merged: tuple[Coefficients, ...] = ()

    @property
    def label(self) -> str:
        """The coefficients in words."""
        return describe(self.coefficients)

    @property
    def note(self) -> str:
        """The merged points in words; empty if there are none."""
        others = " and ".join(describe(other) for other in self.merged)
        return f"{self.label} represents {others} too: the same network after rounding" if others else ""


def describe(coefficients: Coefficients) -> str:
    """Return coefficients in words."""
    return f"alpha {coefficients.alpha:g}, beta {coefficients.beta:g}, gamma {coefficients.gamma:g}"


def parse_grid(text: str) -> tuple[Decimal, ...]:
    """Return the values of LOW:HIGH:STEP, both ends included."""
    try:
        low, high, step = (Decimal(part) for part in text.split(":"))
    except (ValueError, InvalidOperation):
        raise CompoundNetError(
            f"the grid {text!r} cannot be read; expected LOW:HIGH:STEP, such as {DEFAULT_GRID}"
        ) from None
    if not (low.is_finite() and high.is_finite() and step.is_finite() and 1 <= low <= high and step > 0):
        raise CompoundNetError(
            f"the grid {text}: expected LOW of at least 1 (Eq. 3), HIGH not below it and STEP above 0, such as"
            f" {DEFAULT_GRID}"
        )
    count = int((high - low) / step) + 1
    if count > _MOST:
        raise CompoundNetError(f"the grid {text} has {count:,} values a coefficient; at most {_MOST} are allowed")
    return tuple(low + number * step for number in range(count))


def within(grid: str, tolerance: str) -> tuple[tuple[Decimal, Decimal, Decimal], ...]:
    """Return the grid's points whose alpha * beta^2 * gamma^2 is within the tolerance of 2, in order.

    Raises:
        CompoundNetError: There is no such point; the message names the nearest.
    """
    values, allowed = parse_grid(grid), _tolerance(tolerance)
    points = list(product(values, values, values))
    found = tuple(point for point in points if _distance(point) <= allowed)
    if not found:
        nearest = min(points, key=_distance)
        raise CompoundNetError(
            f"no point of the grid {grid} has alpha * beta^2 * gamma^2 within {allowed} of {_TARGET}; the nearest is"
            f" {describe(_coefficients(nearest))}, with {_growth(nearest).normalize():f}. Give a finer or wider --grid,"
            f" or --tolerance {_distance(nearest).normalize():f}"
        )
    return found


@lru_cache(maxsize=8)
def points(network: Network, grid: str, tolerance: str, phi: float) -> tuple[CoefficientPoint, ...]:
    """Return the grid's points within the tolerance with their networks, scaled by `phi`.

    If points round to the same network, the point nearest to 2 is kept and lists the others as `merged`.
    """
    groups: dict[Network, list[tuple[Decimal, Decimal, Decimal]]] = {}
    for point in within(grid, tolerance):
        scaled = compound(network, phi, _coefficients(point))
        groups.setdefault(scaled.replace(name="n", scaling=None), []).append(point)
    found = []
    for members in groups.values():
        chosen = min(members, key=_distance)
        made = _coefficients(chosen)
        name = f"{network.name}-a{made.alpha:g}-b{made.beta:g}-c{made.gamma:g}-phi{phi:g}"
        others = tuple(_coefficients(other) for other in members if other != chosen)
        found.append(CoefficientPoint(made, compound(network, phi, made).replace(name=name), others))
    return tuple(found)


def _tolerance(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal(-1)
    if not (value.is_finite() and value >= 0):
        raise CompoundNetError(f"the tolerance must be a number of at least 0, got {text!r}")
    return value


def _growth(point: tuple[Decimal, Decimal, Decimal]) -> Decimal:
    alpha, beta, gamma = point
    return alpha * beta**2 * gamma**2


def _distance(point: tuple[Decimal, Decimal, Decimal]) -> Decimal:
    return abs(_growth(point) - _TARGET)


def _coefficients(point: tuple[Decimal, Decimal, Decimal]) -> Coefficients:
    return Coefficients(*(float(value) for value in point))
