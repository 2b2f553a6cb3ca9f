"""A picture's bytes as pixels, whatever source they come from."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from PIL import Image, UnidentifiedImageError

from compoundnet.base import first_line
from compoundnet.data.dataset import Split
from compoundnet.data.images import UnreadableImageError, image_formats, to_rgb
from compoundnet.data.sources import Encoded


def read_picture(split: Split, index: int) -> Image.Image:
    """Picture `index` as upright 8-bit RGB, by the rules of `read_image`. Raises UnreadableImageError."""
    with naming(split, index):
        return decode(split.read(index))


def decode(encoded: Encoded) -> Image.Image:
    """Bytes or pixels as upright 8-bit RGB. Raises what PIL raises: see `naming`."""
    if not isinstance(encoded, bytes):
        return to_rgb(encoded)
    with opened(encoded) as image:
        return to_rgb(image)


def opened(encoded: bytes) -> Image.Image:
    """The picture's header; its pixels are decoded when they are asked for."""
    return Image.open(io.BytesIO(encoded), formats=_formats())


@cache
def _formats() -> tuple[str, ...]:
    """The usual one first: PIL asks each in turn."""
    return ("JPEG", *(name for name in image_formats() if name != "JPEG"))


@contextmanager
def naming(split: Split, index: int) -> Iterator[None]:
    """Turn whatever stands in the way of a picture into an UnreadableImageError that names it."""
    try:
        yield
    except Exception as error:  # a damaged file makes a decoder raise whatever its code trips over
        raise UnreadableImageError(split.picture_name(index), reason(error)) from error


def reason(error: Exception) -> str:
    """Why a picture cannot be read, for a person."""
    if isinstance(error, UnidentifiedImageError):
        return "is empty or not a picture in a format that can be read"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    return f"cannot be decoded: {first_line(error)}"
