"""Any picture a person has, as upright 8-bit RGB, or the reason why it cannot be read."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from compoundnet.base import CompoundNetError

# Formats that PIL opens but does not decode itself: it hands them to Ghostscript, to Windows, or to nobody.
_NOT_DECODED = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
_SIXTEEN_BITS = 65535.0


class UnreadableImageError(CompoundNetError):
    """A picture that cannot be read: `path` and `reason`."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@cache
def image_formats() -> tuple[str, ...]:
    """PIL's names of the formats that are read here."""
    Image.init()
    return tuple(name for name in Image.OPEN if name not in _NOT_DECODED)


@cache
def image_suffixes() -> frozenset[str]:
    """The endings of their files, in small letters, with the dot."""
    formats = image_formats()
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats)


def read_image(path: str | os.PathLike[str]) -> Image.Image:
    """The picture in a file, upright, as 8-bit RGB (see `to_rgb`); the first frame where there are several.

    Raises UnreadableImageError for whatever stands in the way: no such file, a folder, not a picture, a truncated one,
    one with more than twice PIL.Image.MAX_IMAGE_PIXELS (179 million), where PIL refuses; it warns from the half of it.
    """
    try:
        with Image.open(path, formats=image_formats()) as image:
            return to_rgb(image)
    except Exception as error:  # a damaged file makes a decoder raise whatever its code trips over
        raise UnreadableImageError(os.fspath(path), _reason(error, Path(path))) from error


def to_rgb(picture: Image.Image | NDArray[Any]) -> Image.Image:
    """A PIL image of any mode, or an array uint8[H, W], uint8[H, W, 3 or 4], uint16[H, W], as upright 8-bit RGB.

    - EXIF's orientation is applied.
    - Transparency is dropped, as TensorFlow's decoder, torchvision and timm do: the colours under it are what counts.
    - 16-bit grey is scaled from 0..65535. 32-bit integers are too where all fit; floats are scaled from 0..1 where all
      fit. What does not fit is scaled from the picture's own lowest to its highest value.
    - CMYK, YCbCr, Lab and HSV go through PIL's conversion; colour profiles are not applied, as in the reference.
    """
    image = picture if isinstance(picture, Image.Image) else _from_array(picture)
    image.load()
    image = _upright(image)
    if image.mode == "RGB":
        return image
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        return Image.fromarray(_eight_bits(image)).convert("RGB")
    if image.has_transparency_data:  # through RGBA, because PIL warns of palettes whose colours are transparent
        image = image.convert("RGBA")
    return image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        return image if orientation == 1 else ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF data does not say how the picture lies
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
            f"a picture as an array must be uint8[H, W, 3], uint8[H, W, 4], uint8[H, W] or uint16[H, W],"
            f" got {array.dtype}{list(array.shape)}"
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _reason(error: Exception, path: Path) -> str:
    if path.is_dir():
        return "is a folder, not a picture"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        limit = (Image.MAX_IMAGE_PIXELS or 0) * (2 if isinstance(error, Image.DecompressionBombError) else 1)
        return f"has more than {limit:,} pixels, the limit that guards against decompression bombs; make it smaller"
    if isinstance(error, UnidentifiedImageError):
        return "is empty" if path.stat().st_size == 0 else "is not a picture in a format that can be read"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    return f"cannot be decoded: {error or type(error).__name__}"
