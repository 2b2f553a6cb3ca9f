"""Truncated and damaged images, large text in PNG files, and formats that an installation does not read."""

from __future__ import annotations

import io
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile, PngImagePlugin
from sample_images import write_image

from compoundnet.base import images

TAKING = images.Reading(allow_truncated=True)


def noise(folder: Path, name: str, **options: Any) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / name, **options)
    return folder / name


def cut(path: Path, fraction: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * fraction)])
    return path


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp", "a.tif", "a.gif", "a.ppm", "a.tga"])
def test_a_truncated_image_is_used_as_far_as_it_goes(tmp_path: Path, name: str) -> None:
    path = noise(tmp_path, name)
    whole = np.asarray(images.read_image(path))
    cut(path, 2 / 3)
    damage: list[str] = []
    read = np.asarray(images.read_image(path, TAKING, damaged=damage.append))
    assert len(damage) == 1
    assert read.shape == whole.shape
    assert 0.4 < (read == whole).all(axis=-1).mean() < 0.9
    with pytest.raises(images.UnreadableImageError):  # as before: the switch holds for one image
        images.read_image(path)


def test_a_progressive_jpeg(tmp_path: Path) -> None:
    path = cut(noise(tmp_path, "a.jpg", progressive=True), 0.5)
    damage: list[str] = []
    assert images.read_image(path, TAKING, damaged=damage.append).size == (80, 60)
    assert damage == ["is truncated"]


def test_a_damaged_byte_in_the_middle_of_a_png(tmp_path: Path) -> None:
    path = noise(tmp_path, "a.png")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(images.UnreadableImageError):
        images.read_image(path)
    damage: list[str] = []
    images.read_image(path, TAKING, damaged=damage.append)
    assert len(damage) == 1


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_file_that_ends_before_its_pixels_stays_unreadable(tmp_path: Path, name: str) -> None:
    path = noise(tmp_path, name)
    content = path.read_bytes()
    pixels = content.index(b"\xff\xda" if name == "a.jpg" else b"IDAT")
    path.write_bytes(content[: pixels + 14])
    with pytest.raises(images.UnreadableImageError):
        images.read_image(path, TAKING)


def test_nothing_of_an_empty_file_or_a_text_is_used(tmp_path: Path) -> None:
    for content in (b"", b"not an image"):
        (tmp_path / "a.jpg").write_bytes(content)
        with pytest.raises(images.UnreadableImageError, match=r"is empty|is not an image"):
            images.read_image(tmp_path / "a.jpg", TAKING)


def test_an_undamaged_image_is_not_reported(tmp_path: Path) -> None:
    damage: list[str] = []
    images.read_image(noise(tmp_path, "a.jpg"), TAKING, damaged=damage.append)
    assert damage == []


def test_threads_that_read_strictly_are_not_disturbed(tmp_path: Path) -> None:
    """PIL has one switch for the whole process."""
    path = cut(noise(tmp_path, "a.jpg"), 0.6)
    taken: list[object] = []
    stop = threading.Event()

    def take() -> None:
        while not stop.is_set():
            taken.append(images.read_image(path, TAKING))

    other = threading.Thread(target=take)
    other.start()
    try:
        for _ in range(100):
            with pytest.raises(images.UnreadableImageError):
                images.read_image(path)
    finally:
        stop.set()
        other.join()
    assert taken and not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("kind", ["text", "compressed text", "international text", "profile"])
@pytest.mark.parametrize("megabytes", [3, 80])
def test_large_chunks_of_a_png_are_not_the_image(tmp_path: Path, kind: str, megabytes: int) -> None:
    """Pillow#8363, LlamaFactory#6300; PIL refuses more than 1 MB compressed, and 64 MB altogether."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    text = "x" * (megabytes << 20)
    info = PngImagePlugin.PngInfo()
    options: dict[str, Any] = {"pnginfo": info}
    if kind == "international text":
        info.add_itxt("prompt", text, zip=True)
    elif kind == "profile":
        options["icc_profile"] = text.encode()
    else:
        info.add_text("prompt", text, zip=kind == "compressed text")
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path, **options)
    np.testing.assert_array_equal(np.asarray(images.read_image(path)), pixels)
    np.testing.assert_array_equal(np.asarray(images.decode(path.read_bytes())), pixels)


def test_a_png_with_large_text_and_a_missing_end(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", "x" * (3 << 20), zip=True)
    path = cut(noise(tmp_path, "a.png", pnginfo=info), 0.7)
    with pytest.raises(images.UnreadableImageError, match="truncated"):
        images.read_image(path)
    damage: list[str] = []
    images.read_image(path, TAKING, damaged=damage.append)
    assert len(damage) == 1


@pytest.mark.parametrize("name", ["A.JPG", "a.jfif", "a.JPE", "a.TiFf", "a.jp2"])
def test_suffixes_in_any_case(tmp_path: Path, name: str) -> None:
    kind = {".jp2": "JPEG2000", ".tiff": "TIFF"}.get(Path(name).suffix.lower(), "JPEG")
    Image.new("RGB", (4, 4)).save(tmp_path / name, kind)
    assert Path(name).suffix.lower() in images.image_suffixes()
    assert images.read_image(tmp_path / name).size == (4, 4)


@pytest.mark.parametrize("ending", ["heic", "HEIF", "hif", "avif"])
def test_the_images_of_phones(tmp_path: Path, ending: str) -> None:
    pytest.importorskip("pillow_heif")
    images.image_formats()  # registers the writer too
    written = write_image(tmp_path / "a.png", 3, size=(64, 48))
    path = tmp_path / f"IMG_1.{ending}"
    with Image.open(written) as image:
        image.save(path, "AVIF" if ending == "avif" else "HEIF", quality=95)
    assert path.suffix.lower() in images.image_suffixes()
    assert path.suffix.lower() not in images.unread_suffixes()
    read, original = (np.asarray(images.read_image(one)).astype(int) for one in (path, written))
    assert np.abs(read - original).mean() < 4


def test_the_orientation_of_a_phones_image_is_applied_once(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    images.image_formats()
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGB", (64, 32), "red")
    image.paste("blue", (0, 0, 32, 32))
    image.save(tmp_path / "a.heic", "HEIF", exif=exif.tobytes(), quality=95)
    read = images.read_image(tmp_path / "a.heic")
    assert read.size == (32, 64)
    top, bottom = np.asarray(read)[8].mean(axis=0), np.asarray(read)[-8].mean(axis=0)
    assert top[2] > 200 > bottom[2] and top[0] < 60 < bottom[0]  # the blue half is above the red one


def _box(brand: bytes) -> bytes:
    return b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1" + brand + zlib.compress(b"x" * 500)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (_box(b"heic"), "is a HEIC image, which cannot be read in this installation: pip install 'compoundnet[heif]'"),
        (_box(b"avif"), "is an AVIF image, which cannot be read in this installation: pip install --upgrade pillow"),
        (
            b"II*\0" + bytes(60),
            "is a TIFF image of a kind that cannot be read, or is damaged; convert it to 8 or 16 bits a value",
        ),
    ],
)
def test_a_format_that_is_not_read_here_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, expected: str
) -> None:
    without = tuple(name for name in images.image_formats() if name not in ("HEIF", "AVIF"))
    monkeypatch.setattr(images, "image_formats", lambda: without)
    (tmp_path / "IMG_1.heic").write_bytes(content)
    with pytest.raises(images.UnreadableImageError) as caught:
        images.read_image(tmp_path / "IMG_1.heic")
    assert caught.value.reason == expected
    with pytest.raises(images.UnreadableImageError, match="cannot be read"), images.image_errors(lambda: "here"):
        images.decode(content)


def test_suffixes_that_are_not_read_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "image_suffixes", lambda: frozenset({".jpg"}))
    advice = images.unread_suffixes.__wrapped__()
    assert advice[".heic"] == "pip install 'compoundnet[heif]'"
    assert advice[".avif"] == "pip install --upgrade pillow"
    assert advice[".cr2"] == advice[".ico"] == "convert them to JPEG or PNG"
    assert ".jpg" not in advice


def test_in_memory_a_whole_image_is_read_as_a_file_is(tmp_path: Path) -> None:
    content = noise(tmp_path, "a.jpg").read_bytes()
    damage: list[str] = []
    images.decode(content[:-1000], TAKING, damaged=damage.append)
    assert damage and Image.open(io.BytesIO(content)).size == (80, 60)


def progressive(scans: int, before: bytes = b"") -> bytes:
    """A progressive JPEG whose last scan is repeated; each takes the decoder the time of all pixels."""
    content = io.BytesIO()
    Image.new("L", (64, 64), 128).save(content, "JPEG", progressive=True)
    whole = content.getvalue()
    start, own = whole.rindex(b"\xff\xda"), whole.count(b"\xff\xda")
    more = (before + whole[start:-2]) * (scans - own)
    return whole[:-2] + more + b"\xff\xd9" + b"\xff\xda" * 200  # what follows does not count


def preceded_by_tem(scans: int) -> bytes:
    """The same with a marker that has no length before each scan."""
    return progressive(scans, b"\xff\x01")


def channel_by_channel(scans: int) -> bytes:
    """A baseline JPEG whose scans hold one colour channel each, and hardly any data."""
    content = io.BytesIO()
    Image.new("RGB", (64, 64)).save(content, "JPEG", subsampling=0)
    header = content.getvalue()[: content.getvalue().index(b"\xff\xda")]
    each = [b"\xff\xda\0\x08\x01" + bytes([number % 3 + 1]) + b"\0\0\x3f\0" + bytes(16) for number in range(scans)]
    return header + b"".join(each) + b"\xff\xd9" + b"\xff\xda" * 200


def one_of_several(scans: int) -> bytes:
    """The same, followed by a second image, as cameras with two lenses write them (MPO)."""
    content = io.BytesIO()
    two = Image.new("RGB", (64, 64))
    two.save(content, "MPO", save_all=True, append_images=[two], subsampling=0)
    whole, plain = content.getvalue(), channel_by_channel(scans)
    first = whole.index(b"\xff\xda")
    return whole[:first] + plain[plain.index(b"\xff\xda") :] + whole[whole.index(b"\xff\xd9", first) + 2 :]


@pytest.mark.parametrize("jpeg", [progressive, preceded_by_tem, channel_by_channel, one_of_several])
def test_a_jpeg_of_many_scans_is_refused(tmp_path: Path, jpeg: Callable[[int], bytes]) -> None:
    (tmp_path / "many.jpg").write_bytes(jpeg(101))
    (tmp_path / "most.jpg").write_bytes(jpeg(100))
    assert images.read_image(tmp_path / "most.jpg").size == (64, 64)
    with pytest.raises(images.UnreadableImageError, match="it has 101 scans, and 100 is the limit"):
        images.read_image(tmp_path / "many.jpg")
    with pytest.raises(ValueError, match="101 scans"):
        images.decode(jpeg(101), images.Reading(allow_truncated=True))
