"""Reading images: every kind a person has gives the colours it shows, and every bad one a reason."""

import io
import os
import pickle
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import EpsImagePlugin, Image

from compoundnet.base import CompoundNetError, images

Pixels = NDArray[np.uint8]
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"


@pytest.fixture
def colours() -> Pixels:
    """A smooth image, uint8[24, 40, 3], with no symmetry; JPEG keeps it to a few levels."""
    rows, columns = np.mgrid[0:24, 0:40]
    return np.stack([rows * 10, columns * 6, 255 - rows * 3 - columns * 4], axis=-1).astype(np.uint8)


def read(path: Path) -> Pixels:
    image = images.read_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def saved(folder: Path, image: Image.Image, name: str, **options: Any) -> Path:
    image.save(folder / name, **options)
    return folder / name


def opened(path: Path) -> tuple[str, int]:
    """The mode and the number of frames that PIL sees, so that a test is about what it says it is."""
    with Image.open(path) as image:
        return image.mode, getattr(image, "n_frames", 1)


def grey_of(image: Pixels) -> Pixels:
    """The grey level of an image that must be grey."""
    assert (image == image[..., :1]).all()
    return image[..., 0]


@pytest.mark.parametrize("ending", ["png", "bmp", "dib", "tif", "ppm", "webp", "tga", "jp2", "pcx", "qoi", "sgi"])
def test_lossless_formats_give_the_same_pixels(tmp_path: Path, colours: Pixels, ending: str) -> None:
    options: dict[str, Any] = {"webp": {"lossless": True}, "jp2": {"irreversible": False}}.get(ending, {})
    path = saved(tmp_path, Image.fromarray(colours), f"image.{ending}", **options)
    np.testing.assert_array_equal(read(path), colours)


def test_content_decides_and_not_the_ending(tmp_path: Path, colours: Pixels) -> None:
    path = saved(tmp_path, Image.fromarray(colours), "image.jpg", format="png")
    np.testing.assert_array_equal(read(path), colours)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, colours: Pixels, orientation: int, ending: str) -> None:
    # As the sensor stored it: undoing what each orientation asks of the viewer.
    stored = {
        1: colours,
        2: colours[:, ::-1],
        3: colours[::-1, ::-1],
        4: colours[::-1],
        5: colours.transpose(1, 0, 2),
        6: colours.transpose(1, 0, 2)[::-1],
        7: colours[::-1, ::-1].transpose(1, 0, 2),
        8: colours[::-1].transpose(1, 0, 2),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, dict[str, Any]] = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}
    path = saved(tmp_path, Image.fromarray(stored), f"turned.{ending}", exif=exif, **options.get(ending, {}))
    np.testing.assert_allclose(read(path).astype(int), colours, atol=4 if ending == "jpg" else 0)


def test_damaged_exif_leaves_the_image_as_it_is(tmp_path: Path, colours: Pixels) -> None:
    path = saved(tmp_path, Image.fromarray(colours), "image.png", exif=b"Exif\0\0MM\0*\0\0\0\xff\xff\xff")
    np.testing.assert_array_equal(read(path), colours)


def test_grey_and_one_bit(tmp_path: Path, colours: Pixels) -> None:
    grey = colours[..., 1]
    np.testing.assert_array_equal(grey_of(read(saved(tmp_path, Image.fromarray(grey), "grey.png"))), grey)
    bits = Image.fromarray(grey > 100)
    assert bits.mode == "1"
    np.testing.assert_array_equal(grey_of(read(saved(tmp_path, bits, "bits.png"))), np.where(grey > 100, 255, 0))


def test_transparency_is_dropped(tmp_path: Path, colours: Pixels) -> None:
    """What lies under transparent pixels counts, as in other libraries."""
    alpha = np.zeros((24, 40, 1), np.uint8)
    alpha[:, 20:] = 128
    rgba = Image.fromarray(np.concatenate([colours, alpha], axis=-1))
    np.testing.assert_array_equal(read(saved(tmp_path, rgba, "rgba.png")), colours)
    grey_alpha = Image.merge("LA", [Image.fromarray(colours[..., 1]), Image.fromarray(alpha[..., 0])])
    np.testing.assert_array_equal(grey_of(read(saved(tmp_path, grey_alpha, "la.png"))), colours[..., 1])
    keyed = saved(tmp_path, Image.fromarray(colours), "keyed.png", transparency=tuple(map(int, colours[0, 0])))
    np.testing.assert_array_equal(read(keyed), colours)


@pytest.mark.parametrize("transparency", [None, 1, bytes([0, 128, 255])])
@pytest.mark.parametrize("ending", ["png", "gif"])
def test_palette_with_and_without_transparency(tmp_path: Path, transparency: int | bytes | None, ending: str) -> None:
    if ending == "gif" and isinstance(transparency, bytes):
        transparency = 2  # a GIF has one transparent colour
    palette = np.array([[250, 10, 20], [30, 240, 50], [60, 70, 230]], np.uint8)
    indices = np.arange(24 * 40, dtype=np.uint8).reshape(24, 40) % 3
    image = Image.frombytes("P", (40, 24), indices.tobytes())
    image.putpalette(palette.ravel().tolist())
    options = {} if transparency is None else {"transparency": transparency}
    path = saved(tmp_path, image, f"palette.{ending}", **options)
    np.testing.assert_array_equal(read(path), palette[indices])


@pytest.mark.parametrize("ending", ["jpg", "tif"])
def test_cmyk(tmp_path: Path, colours: Pixels, ending: str) -> None:
    options = {"quality": 100, "subsampling": 0} if ending == "jpg" else {}
    path = saved(tmp_path, Image.fromarray(colours).convert("CMYK"), f"cmyk.{ending}", **options)
    assert opened(path)[0] == "CMYK"
    np.testing.assert_allclose(read(path).astype(int), colours, atol=4)


def test_lab_and_hsv_go_through_pil(colours: Pixels) -> None:
    hsv = Image.fromarray(colours).convert("HSV")
    np.testing.assert_allclose(np.asarray(images.to_rgb(hsv)).astype(int), colours, atol=6)
    white = images.to_rgb(Image.new("LAB", (5, 4), (255, 128, 128)))
    np.testing.assert_allclose(np.asarray(white).astype(int), 255, atol=1)


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_16_bit_grey_is_scaled_by_its_range(tmp_path: Path, ending: str) -> None:
    levels = np.linspace(0, 65535, 24 * 40).astype(np.uint16).reshape(24, 40)
    path = saved(tmp_path, Image.fromarray(levels), f"deep.{ending}")
    assert opened(path)[0] in ("I;16", "I")
    np.testing.assert_array_equal(grey_of(read(path)), np.rint(levels / 257))
    dark = saved(tmp_path, Image.fromarray(levels // 100), f"dark.{ending}")
    assert grey_of(read(dark)).max() == 3  # and not stretched: a dark image stays dark


def test_big_endian_16_bit_grey() -> None:
    image = Image.frombytes("I;16B", (2, 1), bytes([0x80, 0x00, 0xFF, 0xFF]))
    assert np.asarray(images.to_rgb(image))[0, :, 0].tolist() == [128, 255]


def test_32_bit_integers_and_floats(tmp_path: Path) -> None:
    def grey(values: list[float], kind: str) -> list[int]:
        path = saved(tmp_path, Image.fromarray(np.array([values], kind)), "deep.tif")
        return [int(level) for level in grey_of(read(path))[0]]

    assert grey([0, 65535, 32896], "int32") == [0, 255, 128]
    assert grey([-100, 100, -20], "int32") == [0, 255, 102]
    assert grey([0, 2_000_000, 400_000], "int32") == [0, 255, 51]
    assert grey([0.0, 0.2, 0.6], "float32") == [0, 51, 153]
    assert grey([0.0, 1000.0, 200.0], "float32") == [0, 255, 51]
    assert grey([0.0, float("nan"), float("inf"), 1.0], "float32") == [0, 0, 0, 255]
    assert grey([7.0, 7.0], "float32") == [0, 0]


@pytest.mark.parametrize("ending", ["gif", "png", "webp", "tif"])
def test_the_first_of_several_frames_counts(tmp_path: Path, ending: str) -> None:
    frames = [Image.new("RGB", (40, 24), colour) for colour in ("#ff0000", "#00ff00", "#0000ff")]
    options: dict[str, Any] = {"webp": {"lossless": True}}.get(ending, {})
    path = saved(tmp_path, frames[0], f"moving.{ending}", save_all=True, append_images=frames[1:], **options)
    assert opened(path)[1] == 3
    assert (read(path) == [255, 0, 0]).all()


def test_arrays(colours: Pixels) -> None:
    np.testing.assert_array_equal(np.asarray(images.to_rgb(colours)), colours)
    np.testing.assert_array_equal(np.asarray(images.to_rgb(colours[:, ::-1])), colours[:, ::-1])
    np.testing.assert_array_equal(grey_of(np.asarray(images.to_rgb(colours[..., 0]))), colours[..., 0])
    deep = colours[..., 0].astype(np.uint16) * 257
    np.testing.assert_array_equal(grey_of(np.asarray(images.to_rgb(deep))), colours[..., 0])
    assert np.asarray(images.to_rgb(np.zeros((5, 6, 4), np.uint8))).shape == (5, 6, 3)


@pytest.mark.parametrize(
    "array",
    [np.zeros((3, 8, 9), np.uint8), np.zeros((8, 9, 3)), np.zeros((0, 9, 3), np.uint8), np.zeros(4, np.uint8)],
)
def test_an_array_that_is_no_image_says_what_one_is(array: NDArray[Any]) -> None:
    with pytest.raises(CompoundNetError, match=r"must be uint8\[H, W, 3\].*, got "):
        images.to_rgb(array)


@pytest.mark.parametrize(("image", "kind"), [([Image.new("RGB", (8, 8))] * 2, "list"), (b"JPEG", "bytes")])
def test_what_is_no_image_is_named(image: Any, kind: str) -> None:
    with pytest.raises(CompoundNetError, match=f"a PIL image or a NumPy array, got {kind}; give several one at a time"):
        images.to_rgb(image)


def failure(path: Path) -> str:
    """The reason why a file is unreadable."""
    with pytest.raises(images.UnreadableImageError) as caught:
        images.read_image(path)
    assert caught.value.path == str(path)
    assert str(caught.value) == f"{path}: {caught.value.reason}"
    assert isinstance(caught.value, CompoundNetError)
    return caught.value.reason


@pytest.mark.parametrize("ending", ["jpg", "png", "bmp", "webp", "tif", "gif", "ppm"])
def test_a_truncated_file(tmp_path: Path, ending: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    content = saved(tmp_path, Image.fromarray(noise), f"whole.{ending}").read_bytes()
    path = tmp_path / f"cut.{ending}"
    path.write_bytes(content[: len(content) * 2 // 3])
    assert failure(path).startswith("cannot be decoded: ") or "not an image" in failure(path)


def test_files_that_are_no_images(tmp_path: Path) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("not an image")
    assert failure(text) == "is not an image in a format that can be read"
    (tmp_path / "empty.png").touch()
    assert failure(tmp_path / "empty.png") == "is empty"
    assert failure(tmp_path) == "is a folder, not an image"
    assert failure(tmp_path / "nothing.png") == "cannot be read: No such file or directory"


def test_postscript_is_not_handed_to_an_interpreter(tmp_path: Path) -> None:
    path = tmp_path / "program.eps"
    path.write_bytes(EPS)
    assert failure(path) == "is not an image in a format that can be read"


def _iptc(inner: bytes) -> bytes:
    """An IPTC file around an image of any format."""
    fields = [(3, 20, b"\0\x0a"), (3, 30, b"\0\x0a"), (3, 60, b"\x01\0"), (3, 120, b"\x05"), (8, 10, inner)]
    return b"".join(struct.pack(">BBBH", 0x1C, *place, len(value)) + value for *place, value in fields)


def test_postscript_in_another_image_is_not_handed_to_an_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark, interpreter, path = tmp_path / "ran", tmp_path / "gs", tmp_path / "photo.jpg"
    interpreter.write_text(f"#!/bin/sh\ntouch '{mark}'\n")
    interpreter.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # what Pillow has found so far
    path.write_bytes(_iptc(EPS))
    with pytest.raises(OSError, match="cannot identify"), Image.open(path) as image:  # what the interpreter has written
        image.load()
    mark.unlink()
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    assert failure(path) == "is not an image in a format that can be read"
    assert not mark.exists()


@pytest.mark.parametrize(("ending", "kind"), [("ico", "ICO"), ("icns", "ICNS"), ("jpg", "BLP"), ("dds", "DDS")])
def test_formats_that_wrap_or_unpack_without_a_limit_are_not_read(tmp_path: Path, ending: str, kind: str) -> None:
    path = tmp_path / f"image.{ending}"
    Image.new("RGB", (32, 32)).convert("P" if kind == "BLP" else "RGBA").save(path, kind)
    assert failure(path) == "is not an image in a format that can be read"


def _png_header(width: int, height: int) -> bytes:
    """The first bytes of a PNG of that size: enough for a decoder to believe it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000)))


def test_a_decompression_bomb_is_refused_with_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(_png_header(50_000, 50_000))
    assert Image.MAX_IMAGE_PIXELS is not None
    assert f"more than {2 * Image.MAX_IMAGE_PIXELS:,} pixels" in failure(path)


def test_the_limit_is_pils_own(tmp_path: Path, colours: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, Image.fromarray(colours), "image.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    assert "more than 800 pixels" in failure(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600)
    assert "more than 600 pixels" in failure(path)  # PIL's warning, an error here
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    np.testing.assert_array_equal(read(path), colours)


def test_the_error_survives_pickling() -> None:
    """As it has to on its way out of a data loader's worker."""
    error = pickle.loads(pickle.dumps(images.UnreadableImageError("a.jpg", "is empty")))
    assert (error.path, error.reason, str(error)) == ("a.jpg", "is empty", "a.jpg: is empty")


def test_the_callers_image_is_left_alone(colours: Pixels) -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(colours).save(buffer, "png", exif=exif)
    image = Image.open(buffer)
    assert images.to_rgb(image).size == (24, 40)
    assert image.size == (40, 24)
    assert image.getexif()[0x0112] == 6


def test_reading_images_never_imports_torch() -> None:
    code = "import sys, compoundnet.data; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
