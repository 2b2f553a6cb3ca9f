"""Labels beside the points of a plot."""

from __future__ import annotations

import itertools

from compoundnet.plots.canvas import canvas
from compoundnet.plots.labels import PointLabel, label_points


def test_labels_cover_neither_each_other_nor_a_marker_nor_the_frame() -> None:
    cluster = [(x / 100, y / 100) for x, y in itertools.product((48, 50, 52), (48, 50, 52))]
    corners = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)]
    labels = [PointLabel(f"network {index}", x, y) for index, (x, y) in enumerate(cluster + corners)]
    with canvas(height=5) as surface:
        axes = surface.add_subplot()
        axes.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05))
        boxes = label_points(axes, labels)
        frame = axes.get_window_extent()
        assert all(first.overlap(second) == 0 for first, second in itertools.combinations(boxes, 2))
        markers = [axes.transData.transform((label.x, label.y)) for label in labels]
        assert all(box.distance(x, y) > 0 for box in boxes for x, y in markers)
        assert all(box.left >= frame.x0 and box.right <= frame.x1 for box in boxes)
        assert all(box.bottom >= frame.y0 and box.top <= frame.y1 for box in boxes)
