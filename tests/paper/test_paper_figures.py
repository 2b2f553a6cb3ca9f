"""Figures: that they show the measurements, the same every time."""

from __future__ import annotations

import io
from xml.etree import ElementTree

import pytest
from PIL import Image

from compoundnet import arch, paper, zoo

FIGURES = tuple(f"figure{number}" for number in range(1, 9))


def figure(name: str) -> paper.Figure:
    made = paper.reproduce(name)
    assert isinstance(made, paper.Figure)
    return made


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in ("figure5", "figure6") else name for name in FIGURES],
)
def test_figures_are_equal_byte_for_byte_and_open(name: str) -> None:
    first, second = figure(name), figure(name)
    assert (first.svg, first.png) == (second.svg, second.png)
    image = Image.open(io.BytesIO(first.png))
    assert image.width == 1600
    assert image.info["Description"] == first.description
    root = ElementTree.fromstring(first.svg)
    assert root.tag.endswith("svg")
    assert b"<dc:date>" not in first.svg


@pytest.mark.parametrize(
    ("name", "field"), [pytest.param("figure1", "params", marks=pytest.mark.slow), ("figure5", "macs")]
)
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
