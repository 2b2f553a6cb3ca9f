"""What an evaluation reports, in one form for every kind of model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import msgspec
from scipy import stats

from compoundnet.base.table_files import Columns

# The confidence of all intervals.
CONFIDENCE = 0.95


class Cells(NamedTuple):
    """A table as text: the names of its columns (those that start with `>` are right-aligned), and its rows."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Mistake(NamedTuple):
    """An image that is classified wrongly.

    Attributes:
        image: Its number in the split.
        classes: The classes to look at, each with what it is: the predicted class and the true one.
    """

    image: int
    classes: tuple[tuple[str, int], ...]


class EvaluationReport(Protocol):
    """What is measured of one kind of model: `SingleLabelReport` if each image has exactly one class."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The model's class names."""

    @property
    def image_columns(self) -> Columns:
        """The columns of `image_rows`."""

    def summary(self) -> list[str]:
        """Return the figures of all images together, as lines for people; the first belongs behind the model's name."""

    def tables(self) -> list[Cells]:
        """Return the figures of each class, and more tables that are short enough to be printed."""

    def fields(self) -> dict[str, object]:
        """Return all figures as plain values for a JSON document."""

    def image_rows(self, name: Callable[[int], str]) -> Iterator[Sequence[object]]:
        """Yield a row for each image; `name` returns the name of an image of the split by number."""

    def mistakes(self, most: int) -> list[Mistake]:
        """Return the worst mistakes, the worst first."""


class WilsonInterval(msgspec.Struct, frozen=True):
    """A confidence interval of a fraction."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{CONFIDENCE:.0%} interval {100 * self.low:.2f} to {100 * self.high:.2f}"


def wilson(right: int, count: int) -> WilsonInterval:
    """Return Wilson's interval of a fraction that was measured as `right` of `count` independent images."""
    low, high = stats.binomtest(right, count).proportion_ci(CONFIDENCE, "wilson")
    return WilsonInterval(float(low), float(high))
