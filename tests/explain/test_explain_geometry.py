"""From the map over the network's input back to the image, against images with one bright spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from compoundnet.arch import Network
from compoundnet.explain import ClassMap, overlay
from compoundnet.explain.maps import Array, NetworkOutput, box, class_map, over_image, peak
from compoundnet.models import Preprocess
from compoundnet.models.preprocess import crop_box, inside

GRID = 14
HOW = Preprocess.authors(224)


def brightness(image: Image.Image, how: Preprocess = HOW) -> ClassMap:
    """The map of a network that looks for white: the mean of each of GRID x GRID cells of what it is given."""
    pixels = how.pixels(image).mean(axis=0)
    side = how.size // GRID
    cells: Array = pixels.reshape(GRID, side, GRID, side).mean(axis=(1, 3))
    frame = how.box(image.width, image.height)
    return class_map(
        0, "white", 1.0, NetworkOutput(np.zeros(1, np.float32), lambda _: cells - cells.min()), image.size, frame
    )


def spotted(width: int, height: int, x: float, y: float) -> Image.Image:
    """Black, with a white spot at a share of the centre crop's sides."""
    left, top, right, bottom = crop_box(width, height, HOW.crop)
    radius = max(0.5, (right - left) / 20)
    centre = (left + x * (right - left), top + y * (bottom - top))
    columns, rows = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    near = (columns - centre[0]) ** 2 + (rows - centre[1]) ** 2 <= radius**2
    return Image.fromarray(np.where(near, 255, 0).astype(np.uint8)).convert("RGB")


@pytest.mark.parametrize(
    ("width", "height"), [(640, 480), (480, 640), (1600, 200), (200, 1600), (224, 224), (301, 299), (31, 45), (14, 9)]
)
@pytest.mark.parametrize(("x", "y"), [(0.5, 0.5), (0.15, 0.8), (0.9, 0.25)])
def test_the_peak_is_where_the_spot_is(width: int, height: int, x: float, y: float) -> None:
    shown = brightness(spotted(width, height, x, y))
    left, top, right, bottom = shown.seen
    side = right - left
    within = side / GRID + 1  # a cell, and a pixel of rounding
    wanted = (left + x * side, top + y * side)
    assert shown.peak == pytest.approx(wanted, abs=within)
    assert shown.box is not None
    assert shown.box[0] - 1 <= wanted[0] <= shown.box[2] + 1
    assert shown.box[1] - 1 <= wanted[1] <= shown.box[3] + 1
    assert shown.seen[0] <= shown.box[0] < shown.box[2] <= right
    assert shown.seen[1] <= shown.box[1] < shown.box[3] <= bottom
    row, column = np.unravel_index(np.nanargmax(shown.heat), shown.heat.shape)
    assert (column, row) == pytest.approx(wanted, abs=within)


@pytest.mark.parametrize("fit", ["pad", "squash"])
@pytest.mark.parametrize(
    ("width", "height"), [(640, 480), (120, 640), (640, 120), (1600, 200), (224, 224), (301, 299), (31, 45)]
)
@pytest.mark.parametrize(("x", "y"), [(0.5, 0.5), (0.1, 0.8), (0.9, 0.05)])
@pytest.mark.parametrize("crop", [1.0, 0.875])
def test_a_padded_or_squashed_image_has_its_peak_where_the_spot_is(
    fit: Any, width: int, height: int, x: float, y: float, crop: float
) -> None:
    how = Preprocess(224, crop, fit=fit, mean=(0.0,), std=(0.5,))
    left, top, right, bottom = inside(how.box(width, height), width, height)
    centre = left + x * (right - left), top + y * (bottom - top)
    columns, rows = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    # An ellipse of a tenth of what is seen, so that it has at least a cell.
    near = ((columns - centre[0]) / (right - left)) ** 2 + ((rows - centre[1]) / (bottom - top)) ** 2 <= 0.05**2
    image = Image.fromarray(np.where(near, 255, 0).astype(np.uint8)).convert("RGB")
    shown = brightness(image, how)
    frame = how.box(width, height)
    cell = (frame[2] - frame[0]) / GRID + 1, (frame[3] - frame[1]) / GRID + 1
    assert shown.seen == (left, top, right, bottom)
    for axis in (0, 1):
        assert shown.peak[axis] == pytest.approx(centre[axis], abs=cell[axis])
    assert left <= shown.peak[0] < right and top <= shown.peak[1] < bottom
    assert shown.box is not None
    assert left <= shown.box[0] < shown.box[2] <= right and top <= shown.box[1] < shown.box[3] <= bottom
    assert shown.heat.shape == (height, width)
    seen = np.zeros((height, width), bool)
    seen[top:bottom, left:right] = True
    np.testing.assert_array_equal(np.isfinite(shown.heat), seen)
    row, column = np.unravel_index(np.nanargmax(shown.heat), shown.heat.shape)
    assert column == pytest.approx(centre[0], abs=cell[0]) and row == pytest.approx(centre[1], abs=cell[1])


def test_evidence_in_the_padding_has_no_part_in_peak_box_and_colour() -> None:
    grid = np.zeros((7, 7), np.float32)
    grid[3, 0], grid[1, 3] = 5.0, 1.0  # the first cell is all padding
    frame, size = (-260, 0, 380, 640), (120, 640)
    shown = class_map(0, "one", 1.0, NetworkOutput(np.zeros(1, np.float32), lambda _: grid), size, frame)
    assert shown.maximum == 1
    assert shown.peak == (60, 137)
    assert shown.box is not None and shown.box[1] < 137 < shown.box[3] < 320
    assert shown.seen == (0, 0, 120, 640)


@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 640), (1600, 200), (5, 40), (1, 1)])
def test_the_map_covers_the_crop_and_no_more(width: int, height: int) -> None:
    left, top, right, bottom = crop_box(width, height, HOW.crop)
    heat = over_image(np.ones((7, 7), np.float32), (left, top, right, bottom), (width, height))
    assert heat.shape == (height, width)
    seen = np.zeros((height, width), bool)
    seen[top:bottom, left:right] = True
    np.testing.assert_array_equal(np.isfinite(heat), seen)


def test_it_is_bilinear_between_the_middles_of_the_cells() -> None:
    heat = over_image(np.array([[0, 1]], np.float32), (0, 0, 8, 8), (8, 8))
    np.testing.assert_allclose(heat[0], [0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1], atol=1e-6)


def test_a_smaller_version_of_the_image_has_the_map_in_the_same_place() -> None:
    shown = brightness(spotted(640, 480, 0.15, 0.8))
    whole = over_image(shown.grid, shown.frame, shown.size)
    half = over_image(shown.grid, shown.frame, shown.size, (320, 240))
    row, column = np.unravel_index(np.nanargmax(whole), whole.shape)
    assert np.unravel_index(np.nanargmax(half), half.shape) == pytest.approx((row / 2, column / 2), abs=2)


def test_the_box_is_the_largest_region_above_a_fifth() -> None:
    grid = np.zeros((8, 8), np.float32)
    grid[1, 1] = 1  # the largest value, in the smaller region
    grid[4:7, 3:7] = 0.5
    found = box(grid, (100, 50, 180, 130), (300, 200))
    assert found is not None
    assert found == pytest.approx((130, 90, 170, 120), abs=8)
    assert peak(grid, (100, 50, 180, 130), (300, 200)) == (115, 65)


def test_nothing_that_speaks_for_a_class_has_no_box_and_no_colour() -> None:
    grid = np.full((4, 4), -1.0, np.float32)
    assert box(grid, (0, 0, 40, 40), (40, 40)) is None
    shown = ClassMap(0, "none", 0.1, -1.0, grid, (40, 40), (0, 0, 40, 40), (5, 5), None)
    grey = Image.new("RGB", (40, 40), (90, 90, 90))
    assert overlay(grey, shown).tobytes() == grey.tobytes()


def test_a_photo_that_lies_on_its_side_is_upright(tmp_path: Path) -> None:
    """The map is over the image as read_image turns it."""
    from random_net import random_net, reduced

    from compoundnet.explain import Explainer

    image = spotted(200, 100, 0.3, 0.3)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "lying.jpg", exif=exif)
    network: Network = reduced("efficientnet-b0")
    found = Explainer(random_net(network), preprocess=Preprocess.authors(64))(tmp_path / "lying.jpg", top=1)
    assert found.image.size == found.maps[0].size == (100, 200)
    assert found.maps[0].heat.shape == (200, 100)
