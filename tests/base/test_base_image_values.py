"""Images with more than 8 bits a value: one range for all, from the files or from their values."""

from __future__ import annotations

import io
import logging
import struct
import tracemalloc
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, TiffImagePlugin

from compoundnet.base import image_values, images
from compoundnet.base.image_values import FoundRange, find_range

# 12-bit values of a camera, uint16[24, 40]
RAMP: NDArray[np.uint16] = np.linspace(0, 4087, 24 * 40).astype(np.uint16).reshape(24, 40)


@pytest.fixture(autouse=True)
def _nothing_warned_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_values, "_warned", set())


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    written = io.BytesIO()
    image.save(written, kind, **options)
    return written.getvalue()


def png(values: NDArray[np.uint16], significant: int | None = None) -> bytes:
    """A PNG of 16 bits: grey [H, W], grey with alpha [H, W, 2], RGB or RGBA; with the chunk sBIT, if given."""
    channels = 1 if values.ndim == 2 else values.shape[2]
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in values.astype(">u2"))
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    if significant is not None:
        chunks.insert(1, (b"sBIT", bytes([significant] * channels)))
    packed = (
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def decoded(content: bytes, value_range: tuple[float, float] | None = None) -> NDArray[np.uint8]:
    return np.asarray(images.decode(content, images.Reading(value_range)))


def found(contents: Sequence[bytes], names: Sequence[str] | None = None) -> FoundRange | None:
    given = names or [f"{number}.png" for number in range(len(contents))]
    return find_range(given, lambda number: images.open_encoded(contents[number]))


def expected(values: NDArray[Any], high: float) -> NDArray[Any]:
    return np.rint(values * (255 / high))


def test_twelve_bits_in_a_16_bit_png_are_scaled_by_their_range() -> None:
    """Pillow#3011, ultralytics#21645: all pixels were 0 to 16."""
    one = found([png(RAMP), png(RAMP // 4)])
    assert one is not None and (one.low, one.high, one.guessed) == (0, 4095, True)
    assert str(one) == (
        "2 of 2 images examined have more than 8 bits a value and do not state their range: 0 to 4095 is assumed,"
        " because their values are 0 to 4087; --range LOW:HIGH sets another (in training --set range=[LOW,HIGH])"
    )
    scaled = decoded(png(RAMP // 4), (0, 4095))
    np.testing.assert_array_equal(scaled[..., 0], expected(RAMP // 4, 4095))  # by one range for all, not its own


@pytest.mark.parametrize(
    ("most", "high", "guessed"),
    [(200, 255, True), (1000, 1023, True), (4000, 4095, True), (9000, 16383, True), (40000, 65535, False)],
)
def test_the_depth_that_holds_all_values_is_taken(most: int, high: int, guessed: bool) -> None:
    one = found([png(np.full((4, 5), most, np.uint16))])
    assert one is not None and (one.low, one.high, one.guessed) == (0, high, guessed)


def test_the_significant_bits_of_a_png_are_its_range() -> None:
    content = png(RAMP, significant=12)
    one = found([content])
    assert one is not None and (one.high, one.guessed) == (4095, False)
    assert str(one) == "1 of 1 images examined have more than 8 bits a value: their range is 0 to 4095"
    np.testing.assert_array_equal(decoded(content)[..., 0], expected(RAMP, 4095))


def test_values_that_were_scaled_up_as_the_png_standard_says_keep_their_range() -> None:
    content = png(RAMP * 16, significant=12)
    np.testing.assert_array_equal(decoded(content)[..., 0], expected(RAMP * 16, 65535))
    one = found([content])
    assert one is not None and (one.high, one.guessed) == (65535, False)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colour_of_16_bits_keeps_its_low_bits(channels: int) -> None:
    """PIL takes the high bytes, which are black where 12 bits are used."""
    values = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1], RAMP], axis=-1)[..., :channels]
    colours = values[..., :1] if channels == 2 else values[..., :3]
    one = found([png(values)])
    assert one is not None and one.high == 4095
    np.testing.assert_array_equal(
        decoded(png(values), (0, 4095)), np.broadcast_to(expected(colours, 4095), (24, 40, 3))
    )
    np.testing.assert_array_equal(
        decoded(png(values, significant=12)), np.broadcast_to(expected(colours, 4095), (24, 40, 3))
    )


def test_a_tiff_of_16_bits_states_its_largest_value() -> None:
    content = encoded(Image.fromarray(RAMP), "TIFF", tiffinfo={281: 4095})
    np.testing.assert_array_equal(decoded(content)[..., 0], expected(RAMP, 4095))
    one = found([content], ["a.tif"])
    assert one is not None and (one.high, one.guessed) == (4095, False)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_a_compressed_tiff_of_16_bits(compression: str) -> None:
    content = encoded(Image.fromarray(RAMP), "TIFF", compression=compression)
    np.testing.assert_array_equal(decoded(content, (0, 4095))[..., 0], expected(RAMP, 4095))
    one = found([content], ["a.tif"])
    assert one is not None and (one.high, one.guessed) == (4095, True)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_of_16_bit_rgb(order: str) -> None:
    values = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], axis=-1)
    content = _rgb_tiff(values, order)
    np.testing.assert_array_equal(decoded(content, (0, 4095)), expected(values, 4095))


def _rgb_tiff(values: NDArray[np.uint16], order: str) -> bytes:
    """An uncompressed TIFF of 16-bit RGB, which PIL reads and does not write."""
    pixels = values.astype(f"{order}u2").tobytes()
    height, width = values.shape[:2]
    entries = [
        (256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, None), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, None),
        (277, 3, 1, 3), (278, 3, 1, height), (279, 4, 1, len(pixels)),
    ]  # fmt: skip
    bits = 8 + 2 + 12 * len(entries) + 4
    start = bits + 6
    packed = b""
    for tag, kind, count, value in entries:
        number = {258: bits, 273: start}.get(tag, value)
        assert number is not None
        short = kind == 3 and count == 1
        packed += struct.pack(f"{order}HHI", tag, kind, count)
        packed += struct.pack(f"{order}HH", number, 0) if short else struct.pack(f"{order}I", number)
    mark = b"II" if order == "<" else b"MM"
    head = mark + struct.pack(f"{order}HI", 42, 8) + struct.pack(f"{order}H", len(entries))
    return head + packed + struct.pack(f"{order}I", 0) + struct.pack(f"{order}HHH", 16, 16, 16) + pixels


def test_white_is_zero() -> None:
    content = encoded(Image.fromarray(RAMP), "TIFF", tiffinfo={262: 0, 281: 4095})
    with images.open_encoded(content) as image:
        assert isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2[262] == 0
    np.testing.assert_array_equal(decoded(content)[..., 0], expected(4095 - RAMP.astype(int), 4095))


@pytest.mark.parametrize(
    ("values", "low", "high", "guessed"),
    [([0.0, 0.7], 0, 1, False), ([0.0, 200.0], 0, 255, True), ([-1024.0, 3000.0], -1024, 3000, True)],
)
def test_floats(values: list[float], low: float, high: float, guessed: bool) -> None:
    contents = [encoded(Image.fromarray(np.array([[value]], np.float32)), "TIFF") for value in values]
    one = found(contents, ["a.tif", "b.TIF"])
    assert one is not None and (one.low, one.high, one.guessed) == (low, high, guessed)


def test_a_data_set_of_8_bits_has_no_range() -> None:
    grey = encoded(Image.new("L", (4, 4), 7), "PNG")
    assert found([grey, grey]) is None
    assert found([b"", b""], ["a.jpg", "b.JPEG"]) is None  # such files are not even opened


def test_a_few_deep_images_among_others_and_damaged_ones() -> None:
    grey, deep = encoded(Image.new("L", (4, 4), 7), "PNG"), png(RAMP)
    one = found([grey, deep, deep[: len(deep) // 2], grey])
    assert one is not None and (one.deep, one.examined, one.high) == (1, 4, 4095)


def test_values_outside_the_range_are_clipped_and_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert decoded(png(np.full((2, 2), 5000, np.uint16)), (0, 4095)).min() == 255
    assert [record.getMessage() for record in caplog.records] == [
        "values of images are outside the range 0 to 4095: they are clipped"
    ]


def test_an_image_that_is_dark_for_its_depth_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert [decoded(png(RAMP)).max() for _ in range(2)] == [16, 16]
    (record,) = caplog.records
    assert "an image of 16 bits has values up to 4087 only" in record.getMessage()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_images_are_turned_upright(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    deep, plain = tmp_path / "deep.png", tmp_path / "plain.png"
    Image.fromarray(RAMP).save(deep, exif=exif)
    Image.fromarray(expected(RAMP, 4095).astype(np.uint8)).save(plain, exif=exif)
    reading = images.Reading((0, 4095))
    np.testing.assert_array_equal(
        np.asarray(images.read_image(deep, reading)), np.asarray(images.read_image(plain, reading))
    )


@pytest.mark.parametrize("given", ["4095", "0:", "a:b", "5:5", "9:1", "0:inf"])
def test_a_range_that_is_none_says_what_one_is(given: str) -> None:
    with pytest.raises(ValueError, match="a range is LOW:HIGH, two numbers that rise"):
        image_values.parse_range(given)
    assert image_values.parse_range("-1024:3071.5") == (-1024, 3071.5)


def test_a_colour_profile_does_not_make_an_image_deep() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert found([encoded(Image.new("RGB", (4, 4)), "PNG", icc_profile=profile)]) is None


@pytest.mark.parametrize("values", [
    np.arange(1 << 16).astype(np.uint16).reshape(64, 1024),
    np.arange(1 << 16).astype(np.uint16).reshape(1, 1 << 16),
    np.arange(-70_000, 70_000).astype(np.int32).reshape(70, 2000),
    np.random.default_rng(0).normal(0, 3000, (99, 700, 3)).astype(np.float32),
])  # fmt: skip
@pytest.mark.parametrize("value_range", [(0.0, 4095.0), (100, 5000), (-0.3, 0.7), (0.0, 65535.0), (17.0, 17.0001)])
def test_bands_are_scaled_as_the_whole_image(values: NDArray[Any], value_range: tuple[float, float]) -> None:
    low, high = value_range
    whole = np.rint((values.astype(np.float64) - low) * (255 / (high - low))).clip(0, 255).astype(np.uint8)
    np.testing.assert_array_equal(image_values.eight_bits(values, value_range, None), whole)


@pytest.mark.parametrize("kind", ["grey", "colour", "float"])
def test_an_image_of_16_bits_takes_a_few_times_its_own_memory(kind: str) -> None:
    """In float64, one of 50 megapixels took 3 GB."""
    grey = np.random.default_rng(0).integers(0, 1 << 16, (800, 1000)).astype(np.uint16)
    if kind == "float":
        content = encoded(Image.fromarray(grey.astype(np.float32)), "TIFF")
    else:
        content = png(np.stack([grey] * 3, axis=-1) if kind == "colour" else grey)
    with images.open_encoded(content) as image:
        tracemalloc.start()
        try:
            images.to_rgb(image, (0, 65535), again=lambda: images.open_encoded(content))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 4 * grey.nbytes * (3 if kind == "colour" else 1) + (8 << 20)
