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


@pytest.mark.parametrize(
    ("row", "column", "expected"),
    [(0, 0, (12, 22)), (0, 2, (20, 22)), (1, 0, (12, 27)), (1, 1, (16, 27)), (1, 2, (20, 27))],
)
def test_the_peak_is_the_middle_of_its_cell_to_the_pixel(row: int, column: int, expected: tuple[int, int]) -> None:
    grid = np.zeros((2, 3), np.float32)
    grid[row, column] = 1
    assert peak(grid, (10, 20, 22, 30), (40, 50)) == expected


def test_a_peak_in_the_padding_is_moved_to_the_edge_of_the_image() -> None:
    # Padded above and below: the image is the middle 4 of 10 rows, in which only half of a cell lies.
    grid = np.array([[0, 0], [1, 0], [0, 0]], np.float32)
    assert peak(grid, (0, -3, 10, 7), (10, 4)) == (2, 2)
    first, last = np.array([[9, 0], [0, 0]], np.float32), np.array([[0, 0], [0, 9]], np.float32)
    assert peak(first, (0, -7, 10, 11), (10, 4)) == (2, 0)
    assert peak(last, (0, -7, 10, 11), (10, 4)) == (7, 3)
    assert peak(first.T, (-7, 0, 11, 10), (4, 10)) == (0, 2)
    assert peak(last.T, (-7, 0, 11, 10), (4, 10)) == (3, 7)


def test_the_maximum_is_that_of_the_cells_in_the_image() -> None:
    def maximum(grid: Array, frame: tuple[int, int, int, int], size: tuple[int, int]) -> float:
        return ClassMap(0, "one", 1.0, 0.0, grid, size, frame, (0, 0), None).maximum

    columns = np.array([[5, 1, 2, 6]], np.float32)
    assert maximum(columns, (-10, 0, 30, 40), (20, 40)) == 2
    assert maximum(columns, (-9, 0, 31, 40), (20, 40)) == 5  # a pixel of the first cell is in the image
    assert maximum(columns, (-11, 0, 29, 40), (20, 40)) == 6
    assert maximum(columns.T, (0, -10, 40, 30), (40, 20)) == 2
    assert maximum(columns.T, (0, -9, 40, 31), (40, 20)) == 5
    assert maximum(columns.T, (0, -11, 40, 29), (40, 20)) == 6


def test_the_box_is_exact_where_the_map_is() -> None:
    ones = np.ones((7, 7), np.float32)
    # Larger than the map that is searched, and smaller than the map of the network.
    for size in ((2000, 1000), (513, 40), (3, 5), (1, 1)):
        assert box(ones, (0, 0, *size), size) == (0, 0, *size)
    assert box(ones, (5, 6, 25, 16), (30, 20)) == (5, 6, 25, 16)
    assert box(ones, (-5, -6, 25, 36), (20, 30)) == (0, 0, 20, 30)


@pytest.mark.parametrize(("second", "expected"), [(0.2, (0, 0, 2, 1)), (0.19, (0, 0, 1, 1))])
def test_a_fifth_of_the_maximum_is_in_the_box(second: float, expected: tuple[int, int, int, int]) -> None:
    grid = np.array([[1, second]], np.float32)
    assert box(grid, (0, 0, 2, 1), (2, 1)) == expected
    left, top, right, bottom = expected
    assert box(grid, (5, 7, 7, 8), (30, 20)) == (5 + left, 7 + top, 5 + right, 7 + bottom)
    assert box(grid.T.copy(), (7, 5, 8, 7), (20, 30)) == (7 + top, 5 + left, 7 + bottom, 5 + right)


def test_of_regions_the_largest_is_the_box_and_one_cell_is_enough() -> None:
    first = np.zeros((1, 9), np.float32)
    first[0, [0, 4, 5, 8]] = 1
    assert box(first, (0, 0, 9, 1), (9, 1)) == (4, 0, 6, 1)
    assert box(first[:, ::-1].copy(), (0, 0, 9, 1), (9, 1)) == (3, 0, 5, 1)
    assert box(first[:, :4].copy(), (0, 0, 4, 1), (4, 1)) == (0, 0, 1, 1)
    assert box(first[:, :4].T.copy(), (0, 0, 1, 4), (1, 4)) == (0, 0, 1, 1)


def test_a_map_of_more_cells_than_pixels_loses_none() -> None:
    third = np.zeros((1, 9), np.float32)
    third[0, 2] = 1
    assert box(third, (0, 0, 3, 1), (3, 1)) == (0, 0, 1, 1)
    assert box(third.T.copy(), (0, 0, 1, 3), (1, 3)) == (0, 0, 1, 1)


def test_a_pixel_that_is_partly_in_the_region_is_in_the_box() -> None:
    # Three cells over two pixels and over ten: the middle one ends inside of pixels.
    middle = np.array([[0, 1, 0]], np.float32)
    assert box(middle, (0, 0, 2, 1), (2, 1)) == (0, 0, 2, 1)
    wide = box(middle, (0, 0, 10, 1), (10, 1))
    assert wide == (2, 0, 8, 1)
    tall = box(middle.T.copy(), (0, 0, 1, 10), (1, 10))
    assert tall == (0, 2, 1, 8)


def test_a_map_that_is_zero_in_the_image_has_no_box() -> None:
    assert box(np.zeros((3, 3), np.float32), (0, 0, 9, 9), (9, 9)) is None
    padding = np.array([[1, 0, 0, 0]], np.float32)
    assert box(padding, (-20, 0, 20, 10), (20, 10)) is None


def test_a_frame_smaller_than_a_drawn_pixel_covers_one() -> None:
    heat = over_image(np.ones((2, 2), np.float32), (40, 60, 41, 61), (100, 100), (10, 10))
    assert np.argwhere(np.isfinite(heat)).tolist() == [[6, 4]]
    for frame in ((100, 100, 101, 101), (100, 0, 101, 100), (0, 100, 100, 101)):  # beyond the image, on each axis
        assert not np.isfinite(over_image(np.ones((2, 2), np.float32), frame, (100, 100), (10, 10))).any()


def test_a_drawn_map_is_scaled_across_and_down_by_itself() -> None:
    heat = over_image(np.ones((2, 2), np.float32), (20, 10, 60, 50), (80, 100), (40, 10))
    rows, columns = np.where(np.isfinite(heat))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (1, 4, 10, 29)
    assert heat.shape == (10, 40)


def test_facts_are_plain_data_with_the_threshold_where_there_is_one() -> None:
    output = NetworkOutput(np.array([0.5, 2.0], np.float32), lambda _: np.eye(2, dtype=np.float32))
    one = class_map(1, "b", 0.25, output, (4, 4), (0, 0, 4, 4))
    assert one.facts() == {
        "index": 1, "label": "b", "probability": 0.25, "logit": 2.0, "peak": one.peak, "box": one.box,
    }  # fmt: skip
    several = class_map(1, "b", 0.25, output, (4, 4), (0, 0, 4, 4), 0.75)
    assert several.facts() == {**one.facts(), "threshold": 0.75}
