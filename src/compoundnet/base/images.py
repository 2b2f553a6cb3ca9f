"""Any image of a user as upright 8-bit RGB, or the reason why it cannot be read."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from compoundnet.base.errors import CompoundNetError, first_line

# An image before it is decoded: a file's bytes, or pixels uint8[H, W] or uint8[H, W, 3].
Encoded = bytes | NDArray[np.uint8]

# Formats that PIL opens but does not decode itself: it relies on Ghostscript, on Windows, or on nothing.
_NOT_DECODED = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
_SIXTEEN_BITS = 65535.0


class UnreadableImageError(CompoundNetError):
    """An image that cannot be read.

    Attributes:
        path: the file, or the image's name in its data set.
        reason: The reason, as the second half of a sentence.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@cache
def image_formats() -> tuple[str, ...]:
    """PIL's names of the formats that can be read; JPEG is first, because PIL tries them in this order."""
    Image.init()
    names = [name for name in Image.OPEN if name not in _NOT_DECODED]
    return ("JPEG", *(name for name in names if name != "JPEG"))


@cache
def image_suffixes() -> frozenset[str]:
    """The file name suffixes of these formats, in lower case, with the dot."""
    formats = image_formats()
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats)


def read_image(path: str | os.PathLike[str]) -> Image.Image:
    """Read an image file as upright 8-bit RGB (see `to_rgb`); of several frames, the first.

    Raises:
        UnreadableImageError: the file is missing, a folder, not an image, truncated, or has more than twice
            PIL.Image.MAX_IMAGE_PIXELS (179 million) pixels. PIL warns from half of that.
    """
    try:
        with Image.open(path, formats=image_formats()) as image:
            return to_rgb(image)
    except Exception as error:  # a damaged file can make a decoder raise anything
        raise UnreadableImageError(os.fspath(path), reason(error, Path(path))) from error


def decode(encoded: Encoded) -> Image.Image:
    """Decode an image in memory as upright 8-bit RGB. Raises the exceptions of PIL; see `image_errors`."""
    if not isinstance(encoded, bytes):
        return to_rgb(encoded)
    with open_encoded(encoded) as image:
        return to_rgb(image)


def open_encoded(encoded: bytes) -> Image.Image:
    """Read an image's header only; PIL decodes the pixels when they are first used."""
    return Image.open(io.BytesIO(encoded), formats=image_formats())


@contextmanager
def image_errors(name: Callable[[], str]) -> Iterator[None]:
    """Turn any exception inside the block into an UnreadableImageError; `name` is called only then."""
    try:
        yield
    except Exception as error:  # a damaged file can make a decoder raise anything
        raise UnreadableImageError(name(), reason(error)) from error


def reason(error: Exception, path: Path | None = None) -> str:
    """Return in words why an image cannot be read; `path` is its file, if any."""
    if path is not None and path.is_dir():
        return "is a folder, not an image"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        limit = (Image.MAX_IMAGE_PIXELS or 0) * (2 if isinstance(error, Image.DecompressionBombError) else 1)
        return f"has more than {limit:,} pixels, the limit that guards against decompression bombs; make it smaller"
    if isinstance(error, UnidentifiedImageError):
        if path is None:
            return "is empty or not an image in a format that can be read"
        return "is empty" if path.stat().st_size == 0 else "is not an image in a format that can be read"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    return f"cannot be decoded: {first_line(error)}"


def to_rgb(image: Image.Image | NDArray[Any]) -> Image.Image:
    """Convert an image to upright 8-bit RGB.

    - EXIF's orientation is applied.
    - Transparency is dropped, as in TensorFlow's decoder, torchvision and timm: the colours below it are kept.
    - 16-bit grey is scaled from 0..65535; so are 32-bit integers if all values fit. Floats are scaled from 0..1 if all
      values fit. Values that do not fit are scaled from the minimum and maximum of the image.
    - CMYK, YCbCr, Lab and HSV go through PIL's conversion; colour profiles are not applied, as in the reference.

    Args:
        image: a PIL image of any mode, or an array uint8[H, W], uint8[H, W, 3 or 4] or uint16[H, W].
    """
    opened = image if isinstance(image, Image.Image) else _from_array(image)
    opened.load()
    opened = _upright(opened)
    if opened.mode == "RGB":
        return opened
    if opened.mode in {"I", "F"} or opened.mode.startswith("I;16"):
        return Image.fromarray(_eight_bits(opened)).convert("RGB")
    if opened.has_transparency_data:  # through RGBA, because PIL warns about palettes with transparent colours
        opened = opened.convert("RGBA")
    return opened.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        return image if orientation == 1 else ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF data has no orientation
        return image


def _eight_bits(image: Image.Image) -> NDArray[np.uint8]:
    values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0, neginf=0)
    low, high = float(values.min()), float(values.max())
    full = 1.0 if image.mode == "F" else _SIXTEEN_BITS
    if low >= 0 and high <= full:
        low, high = 0.0, full
    scaled: NDArray[np.uint8] = np.rint((values - low) * (255 / (high - low or 1))).astype(np.uint8)
    return scaled


def _from_array(array: NDArray[Any]) -> Image.Image:
    colour = array.ndim == 3 and array.shape[-1] in (3, 4) and array.dtype == np.uint8
    grey = array.ndim == 2 and array.dtype in (np.uint8, np.uint16)
    if not (colour or grey) or 0 in array.shape:
        raise CompoundNetError(
            f"an image as an array must be uint8[H, W, 3], uint8[H, W, 4], uint8[H, W] or uint16[H, W],"
            f" got {array.dtype}{list(array.shape)}"
        )
    return Image.fromarray(np.ascontiguousarray(array))
