"""JPEG files are decoded at a fraction of their size where the crop is much larger than the result, and only then."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image

from compoundnet.data import pixels
from compoundnet.data.augment import ColorJitter, RandAugment
from compoundnet.data.pixels import _plain_jpeg, cropped_pixels
from compoundnet.data.randomness import image_random
from compoundnet.data.training_transform import TrainingTransform
from compoundnet.models.preprocess import Box

HOW = TrainingTransform(64)


def picture(width: int = 800, height: int = 600) -> NDArray[np.uint8]:
    """Colours that change slowly, which a JPEG and a smaller one show alike."""
    y, x = np.mgrid[:height, :width]
    planes = (x * 255 / width, y * 255 / height, 128 + 100 * np.sin(x / 90))
    return np.stack(planes, axis=2).astype(np.uint8)


def encoded(form: str = "JPEG", mode: str = "RGB", **options: object) -> bytes:
    written = io.BytesIO()
    Image.fromarray(picture()).convert(mode).save(written, form, **options)
    return written.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return encoded(exif=exif)


@pytest.mark.parametrize(
    ("part", "size", "expected"),
    [
        ((400, 100, 700, 500), (100, 50), (200, 150)),  # three times as wide as the result, eight times as tall: a half
        ((0, 300, 600, 600), (60, 100), (150, 300)),
        ((0, 0, 399, 600), (100, 100), (300, 200)),  # just under four times: a half
        ((0, 0, 800, 399), (100, 100), (200, 400)),
        ((0, 0, 400, 600), (100, 100), (150, 100)),  # a quarter
        ((100, 60, 300, 260), (100, 100), (100, 100)),  # twice: a half
        ((101, 51, 299, 249), (99, 99), (100, 100)),  # boxes are rounded outwards
        ((101, 51, 299, 249), (100, 100), (198, 198)),  # less than twice: as it is
        ((0, 0, 800, 600), (10, 10), (75, 100)),  # an eighth is the least that JPEG has
    ],
)
def test_a_large_crop_is_decoded_smaller(
    monkeypatch: pytest.MonkeyPatch, part: Box, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    monkeypatch.setattr(pixels, "_place", lambda *_: (part, size, (0, 0)))
    found = _plain_jpeg(encoded(quality=95), HOW, image_random(0, 0, 0))
    assert found is not None and found.pixels.shape == (*expected, 3)
    left, top, right, bottom = part
    exact = Image.fromarray(picture()[top:bottom, left:right]).resize((expected[1], expected[0]), Image.Resampling.BOX)
    assert np.abs(found.pixels.astype(int) - np.asarray(exact)).mean() < 3


@pytest.mark.parametrize(
    ("content", "plain"),
    [
        (encoded(), True),
        (encoded(mode="L"), True),
        (turned(1), True),
        (turned(2), False),
        (turned(6), False),
        (encoded(mode="CMYK"), False),
        (encoded("PNG"), False),
        (encoded("WEBP"), False),
    ],
)
def test_only_upright_jpeg_in_rgb_or_grey_is(content: bytes, plain: bool) -> None:
    assert (_plain_jpeg(content, HOW, image_random(0, 0, 0)) is not None) == plain


def test_exif_that_cannot_be_read_leaves_it_to_the_usual_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(_: Image.Image) -> Image.Exif:
        raise SyntaxError("not a TIFF file")

    monkeypatch.setattr(Image.Image, "getexif", damaged)
    assert _plain_jpeg(encoded(), HOW, image_random(0, 0, 0)) is None


def test_both_ways_crop_alike() -> None:
    """The same random numbers give the same crop of a JPEG and of its pixels as PNG."""
    content = encoded(quality=95)
    decoded = io.BytesIO()
    Image.open(io.BytesIO(content)).save(decoded, "PNG")
    for number in range(20):
        one, other = (cropped_pixels(each, HOW, image_random(0, 0, number)) for each in (content, decoded.getvalue()))
        assert (one.float() - other.float()).abs().mean() < 1.5
    # A file is read as a whole, the bytes of one in part: at the same place.
    assert pixels._cropped(content, HOW, image_random(0, 0, 1), pixels._AS_IT_IS, print).pixels.shape < (300, 400)


def test_augmentations_are_applied_in_their_order() -> None:
    cropped = cropped_pixels(encoded(), HOW, image_random(0, 0, 0))
    assert pixels.augmented_pixels(cropped, (None, None), image_random(0, 0, 1)) is cropped
    steps = (RandAugment(), ColorJitter(0.5))
    found = pixels.augmented_pixels(cropped, (None, *steps), image_random(0, 0, 1))
    random, image = image_random(0, 0, 1), Image.fromarray(cropped.permute(1, 2, 0).numpy())
    for step in steps:
        image = step.apply(image, random)
    assert np.array_equal(found.permute(1, 2, 0).numpy(), np.asarray(image))
    assert not np.array_equal(found.numpy(), cropped.numpy())


@pytest.mark.parametrize(
    ("box", "width", "height", "size"), [((3, -30, 52, 6), 34, 11, 9), ((-29, 28, 3, 101), 48, 59, 5)]
)
def test_a_part_that_rounding_moves_out_of_the_square_is_moved_back(
    monkeypatch: pytest.MonkeyPatch, box: Box, width: int, height: int, size: int
) -> None:
    monkeypatch.setattr(TrainingTransform, "crop", lambda *_: box)
    _, (wide, tall), (x, y) = pixels._place(width, height, TrainingTransform(size, fit="pad"), image_random(0, 0, 0))
    assert 0 <= x <= size - wide and 0 <= y <= size - tall
