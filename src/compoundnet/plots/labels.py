"""Text beside the points of a plot, placed without overlap and nearer to its point than to any other.

The library textalloc 1.2.4, tried on Figures 1, 3, 5 and 6, places up to half of the labels nearer to the point of
another network, covers markers, and draws a leader line to each; our plots have at most a few lines.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from compoundnet.plots.canvas import DPI, INK, QUIET

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FONT_SIZE = 10.5  # points
MARKER = 9.0  # points, the side of the area of a marker
MARGIN = 3.0  # pixels kept free around a label
OVERLAP = 10.0  # cost of each covered square pixel; all costs are measured by the area of a box
ROUNDS = 4
# Positions of a label relative to its point: beside it, above and below, at the corners; near, then farther away.
_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
_DISTANCES = (9.0, 18.0, 30.0, 44.0)  # points


class PointLabel(NamedTuple):
    """Text for the point (x, y), in data coordinates."""

    text: str
    x: float
    y: float
    color: str = INK
    weight: str = "normal"


class LabelBox(NamedTuple):
    """The rectangle of a label, in pixels from the lower left corner of the plot."""

    left: float
    bottom: float
    right: float
    top: float

    @property
    def area(self) -> float:
        return (self.right - self.left) * (self.top - self.bottom)

    def distance(self, x: float, y: float) -> float:
        """Return the distance from a point to the nearest edge; 0 inside."""
        return math.hypot(max(self.left - x, 0, x - self.right), max(self.bottom - y, 0, y - self.top))

    def overlap(self, other: LabelBox, margin: float = 0.0) -> float:
        """Return the common area, with this box enlarged by `margin` on every side."""
        width = min(self.right, other.right) - max(self.left, other.left) + margin
        height = min(self.top, other.top) - max(self.bottom, other.bottom) + margin
        return width * height if width > 0 and height > 0 else 0.0


def label_points(
    axes: Axes, labels: Sequence[PointLabel], curve: Sequence[tuple[float, float]] = (), *, drawn: bool = False
) -> list[LabelBox]:
    """Write each label beside its point so that it covers no other label, no marker and not the curve.

    A label far from its point gets a thin leader line. Call this function when limits, scales and title are final,
    because positions are measured on the drawn figure.

    Args:
        axes: The axes to write on.
        labels: The labels and their points.
        curve: Points of a line that labels must not cover, in data coordinates.
        drawn: Whether the figure was drawn when its layout was final, so that it need not be drawn here.

    Returns:
        The boxes in the order of `labels`.
    """
    if not drawn:
        axes.figure.draw_without_rendering()  # type: ignore[union-attr]  # a figure, not a subfigure
    points = _pixels(axes, [(label.x, label.y) for label in labels])
    half = MARKER * DPI / 72 / 2
    markers = [LabelBox(x - half, y - half, x + half, y + half) for x, y in points]
    path = [LabelBox(x - 4, y - 4, x + 4, y + 4) for x, y in _along(_pixels(axes, curve))]
    extent = axes.get_window_extent()
    frame = LabelBox(extent.x0, extent.y0, extent.x1, extent.y1)
    places = [_places(point, _size(axes, label)) for point, label in zip(points, labels, strict=True)]
    costs = [
        [
            _cost(box, points, index, frame, markers[:index] + markers[index + 1 :] + path) + _far(box, rank)
            for box, rank in own
        ]
        for index, own in enumerate(places)
    ]
    chosen = _choose([[box for box, _ in own] for own in places], costs)
    boxes = []
    for index, choice in enumerate(chosen):
        box, rank = places[index][choice]
        boxes.append(box)
        _write(axes, labels[index], points[index], box, leader=rank > 0)
    return boxes


def _choose(places: Sequence[Sequence[LabelBox]], costs: Sequence[Sequence[float]]) -> list[int]:
    """Choose a position for each label: the lowest cost found with several orders of placing them one by one."""
    count = len(places)
    freedom = sorted(range(count), key=lambda index: (sorted(costs[index])[:4], index), reverse=True)
    orders = [freedom, freedom[::-1], *(list(range(count))[::step] for step in (1, -1))]
    best: tuple[float, list[int]] | None = None
    for order in orders:
        chosen: dict[int, int] = {}
        for _ in range(ROUNDS):  # first all labels are placed, then each moves while the others stay
            for index in order:
                others = [places[other][choice] for other, choice in chosen.items() if other != index]
                totals = [
                    cost + OVERLAP * sum(box.overlap(other, MARGIN) for other in others)
                    for box, cost in zip(places[index], costs[index], strict=True)
                ]
                chosen[index] = totals.index(min(totals))
        taken = [places[index][chosen[index]] for index in range(count)]
        total = sum(costs[index][chosen[index]] for index in range(count))
        total += OVERLAP * sum(one.overlap(other, MARGIN) for one, other in itertools.combinations(taken, 2))
        if best is None or total < best[0]:
            best = total, [chosen[index] for index in range(count)]
    return best[1] if best else []


def _cost(
    box: LabelBox, points: Sequence[tuple[float, float]], index: int, frame: LabelBox, obstacles: Sequence[LabelBox]
) -> float:
    """The cost of a position by itself: outside the axes, over a marker or the curve, nearer to another point."""
    own = box.distance(*points[index])
    nearer = sum(box.distance(*point) < own - MARGIN for point in points)
    covered = sum(box.overlap(obstacle) for obstacle in obstacles)
    return OVERLAP * (box.area - box.overlap(frame) + covered) + box.area / 4 * nearer


def _far(box: LabelBox, rank: int) -> float:
    return box.area / 20 * rank


def _places(point: tuple[float, float], size: tuple[float, float]) -> list[tuple[LabelBox, int]]:
    """All positions for a label, each with the rank of its distance."""
    (x, y), (width, height) = point, size
    found = []
    for rank, distance in enumerate(_DISTANCES):
        for right, up in _DIRECTIONS:
            reach = distance * DPI / 72 * (0.75 if right and up else 1.0)
            left = x + right * reach - (width / 2 if right == 0 else width if right < 0 else 0)
            bottom = y + up * reach - (height / 2 if up == 0 else height if up < 0 else 0)
            found.append((LabelBox(left, bottom, left + width, bottom + height), rank))
    return found


def _pixels(axes: Axes, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (axes.transData.transform(point) for point in points)]


def _along(curve: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points along a curve, close enough that no label fits between them, in pixels."""
    found = []
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        steps = int(max(abs(x1 - x0), abs(y1 - y0)) / 6) + 1
        found += [(x0 + (x1 - x0) * step / steps, y0 + (y1 - y0) * step / steps) for step in range(steps)]
    return found


def _size(axes: Axes, label: PointLabel) -> tuple[float, float]:
    text = axes.text(0, 0, label.text, fontsize=FONT_SIZE, fontweight=label.weight)
    extent = text.get_window_extent()
    text.remove()
    return extent.width, extent.height


def _write(axes: Axes, label: PointLabel, point: tuple[float, float], box: LabelBox, leader: bool) -> None:
    to_data = axes.transData.inverted()
    x, y = to_data.transform(((box.left + box.right) / 2, (box.bottom + box.top) / 2))
    axes.text(
        x, y, label.text, fontsize=FONT_SIZE, fontweight=label.weight, color=label.color, ha="center", va="center"
    )
    if leader:
        nearest = (min(max(point[0], box.left), box.right), min(max(point[1], box.bottom), box.top))
        ends = to_data.transform([point, nearest])
        axes.plot(ends[:, 0], ends[:, 1], color=QUIET, linewidth=0.8, zorder=1)
