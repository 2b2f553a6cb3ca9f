"""Figures: that they show the measurements, the same every time, with labels that cover nothing."""

from __future__ import annotations

import io
import itertools
from xml.etree import ElementTree

import pytest
from PIL import Image

from compoundnet import arch, paper, zoo
from compoundnet.plots.canvas import canvas
from compoundnet.plots.labels import PointLabel, label_points

FIGURES = tuple(f"figure{number}" for number in range(1, 9))


def figure(name: str) -> paper.Figure:
    made = paper.reproduce(name)
    assert isinstance(made, paper.Figure)
    return made


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_equal_byte_for_byte_and_open(name: str) -> None:
    first, second = figure(name), figure(name)
    assert (first.svg, first.png) == (second.svg, second.png)
    image = Image.open(io.BytesIO(first.png))
    assert image.width == 1600
    assert image.info["Description"] == first.description
    root = ElementTree.fromstring(first.svg)
    assert root.tag.endswith("svg")
    assert b"<dc:date>" not in first.svg


@pytest.mark.parametrize(("name", "field"), [("figure1", "params"), ("figure5", "macs")])
def test_accuracy_plots_show_table2_as_measured(name: str, field: str) -> None:
    points = {point["model"]: point for point in figure(name).points}
    assert len(points) == 24
    for model, network in (("EfficientNet-B7", "efficientnet-b7"), ("SENet", "senet-154"), ("GPipe", "amoebanet-b")):
        assert points[model]["amount"] == getattr(zoo.network_size(network), field)
    assert points["EfficientNet-B0"]["top1"] == 0.771
    made = figure(name)
    assert "For 16 of the 16 other networks" in made.description
    assert (made.verdict, "For 16 of the 16" in made.reason) == ("agrees", True)


def test_figure2_shows_the_networks_of_table7() -> None:
    points = figure("figure2").points
    assert [point["way"] for point in points] == ["baseline", "width", "depth", "resolution", "compound"]
    base = arch.network("efficientnet-b0")
    assert points[0]["channels"] == [stage.channels for stage in base.stages]
    assert points[1]["channels"] == [2 * stage.channels for stage in base.stages]
    assert points[2]["blocks"] == 4 * base.blocks
    assert points[3]["resolution"] == 448


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
