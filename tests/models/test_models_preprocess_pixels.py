"""Preprocessing is the authors': where the crop lies, its order before the resize, and exact values."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from compoundnet.models import Preprocess
from compoundnet.models.preprocess import crop_box


@pytest.mark.parametrize("size", [224, 240, 260, 280, 300, 380, 456, 528, 600, 672, 800])
def test_a_image_of_size_plus_32_is_cropped_and_not_resized(size: int) -> None:
    assert crop_box(size + 32, size + 32, size / (size + 32)) == (16, 16, size + 16, size + 16)


@pytest.mark.parametrize(
    ("width", "height", "box"),
    [
        (500, 375, (86, 24, 414, 352)),  # side 328 = 0.875 * 375 cut off; (172 + 1) // 2, (47 + 1) // 2
        (375, 500, (24, 86, 352, 414)),
        (451, 300, (95, 19, 357, 281)),
        (1, 1, (0, 0, 1, 1)),
        (1000, 1, (500, 0, 501, 1)),
    ],
)
def test_the_centre_crop_lies_where_the_authors_put_it(width: int, height: int, box: tuple[int, int, int, int]) -> None:
    assert crop_box(width, height, 0.875) == box


@given(st.integers(1, 5000), st.integers(1, 5000), st.floats(0.01, 1))
def test_the_crop_is_a_square_inside_the_image(width: int, height: int, crop: float) -> None:
    left, top, right, bottom = crop_box(width, height, crop)
    assert 1 <= right - left == bottom - top <= min(width, height)
    assert left >= 0 and top >= 0 and right <= width and bottom <= height
    assert 0 <= left - (width - right) <= 1 and 0 <= top - (height - bottom) <= 1


def test_values_are_normalised_exactly() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    inner = pixels[16:-16, 16:-16].transpose(2, 0, 1).astype(np.float64)
    lite = Preprocess.authors_lite(224).pixels(Image.fromarray(pixels))
    np.testing.assert_array_equal(lite, ((inner - 127) / 128).astype(np.float32))
    mean = np.array([0.485, 0.456, 0.406])[:, None, None]
    std = np.array([0.229, 0.224, 0.225])[:, None, None]
    plain = Preprocess.authors(224).pixels(Image.fromarray(pixels))
    np.testing.assert_array_equal(plain, ((inner / 255 - mean) / std).astype(np.float32))
    assert plain.dtype == np.float32 and plain.flags.c_contiguous and plain.shape == (3, 224, 224)


def test_one_mean_and_deviation_serve_all_channels() -> None:
    image = Image.new("RGB", (50, 40), (0, 255, 51))
    values = Preprocess(size=32, crop=1.0, mean=(0.5,), std=(0.5,)).pixels(image)
    np.testing.assert_allclose(values[:, 0, 0], [-1, 1, -0.6], rtol=1e-6)


def test_nothing_outside_the_crop_reaches_a_pixel() -> None:
    """Crop before resize; the other order would mix the red frame into the edges."""
    image = Image.new("RGB", (800, 600), "red")
    how = Preprocess(size=64, crop=0.5, mean=(0.0,), std=(1.0,))
    image.paste("black", crop_box(800, 600, how.crop))
    assert (how.pixels(image) == 0).all()


def test_the_resize_is_the_one_that_is_asked_for() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    bicubic = Preprocess(size=64, crop=0.9, mean=(0.0,), std=(1 / 255,))
    for name, resample in (("bicubic", Image.Resampling.BICUBIC), ("bilinear", Image.Resampling.BILINEAR)):
        expected = image.crop((65, 15, 335, 285)).resize((64, 64), resample)
        how = msgspec.structs.replace(bicubic, interpolation=name)
        values = how.pixels(image)
        np.testing.assert_allclose(values, np.asarray(expected).transpose(2, 0, 1), rtol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (3, 2)])
def test_tiny_images_are_enlarged(size: tuple[int, int]) -> None:
    values = Preprocess.authors_lite(224).pixels(Image.new("RGB", size, (127, 127, 127)))
    assert (values == 0).all()
