"""What can still be read of a damaged image file, and PNG files with chunks that PIL refuses."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import numpy as np
from PIL import Image, ImageFile, JpegImagePlugin

from compoundnet.base import limits

_PNG = b"\x89PNG\r\n\x1a\n"
# PIL refuses text and colour profiles that inflate to more than 1 MiB: neither is the image.
_LARGE = 1 << 20
_BLANK = 0.9
# A marker of JPEG that has a length, and the end of the image: all but stuffed zeros, TEM and restarts.
_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9


class _Lenient(threading.local):
    """PIL's switch for truncated files, a bool for the whole process, as one for each thread.

    Another thread may be reading strictly, to find out which images are damaged.
    """

    def __init__(self, default: bool) -> None:
        self.on = default

    def __bool__(self) -> bool:
        return self.on


_lock = threading.Lock()


@contextmanager
def taking_damaged() -> Iterator[None]:
    """Let PIL decode truncated and damaged files as far as it can, in this thread."""
    with _lock:
        if not isinstance(ImageFile.LOAD_TRUNCATED_IMAGES, _Lenient):
            ImageFile.LOAD_TRUNCATED_IMAGES = cast(bool, _Lenient(bool(ImageFile.LOAD_TRUNCATED_IMAGES)))
        switch = cast(_Lenient, ImageFile.LOAD_TRUNCATED_IMAGES)
    before, switch.on = switch.on, True
    try:
        yield
    finally:
        switch.on = before


def is_blank(image: Image.Image) -> bool:
    """Whether hardly a tenth of an RGB image differs from its last or first pixel, as in a file that ends too early."""
    pixels = np.asarray(image)
    return any((pixels == filler).all(axis=-1).mean() > _BLANK for filler in (pixels[-1, -1], pixels[0, 0]))


def check_scans(image: Image.Image) -> Image.Image:
    """Return an opened image that is not decoded yet. Raises ValueError if it is a JPEG of more scans than the limit.

    75 bytes of a scan keep the decoder busy for 40 ms if the image has 49 million pixels, in a progressive JPEG and in
    one whose scans have a colour channel each.
    """
    if isinstance(image, JpegImagePlugin.JpegImageFile) and image.fp is not None:  # MPO is a kind of it
        place = image.fp.tell()
        image.fp.seek(0)
        scans = _scans(image.fp.read())
        image.fp.seek(place)
        if scans > limits.SCANS:
            image.close()
            raise ValueError(f"it has {scans:,} scans, and {limits.SCANS} is the limit; save it as a plain JPEG")
    return image


def _scans(jpeg: bytes) -> int:
    """The number of scans of the first image of a JPEG file, or more while it is far below the limit."""
    most = jpeg.count(b"\xff\xda")  # also of other images in the file and of what only looks so
    if most <= limits.SCANS:
        return most
    found, place = 0, 2
    while (marker := _MARKER.search(jpeg, place)) is not None and marker[0][1] != _END_OF_IMAGE:
        found += marker[0][1] == _START_OF_SCAN
        # Two bytes of the length, which they count too, follow.
        place = marker.end() + int.from_bytes(jpeg[marker.end() : marker.end() + 2], "big")
    return found


def without_text(encoded: bytes) -> bytes | None:
    """Return a PNG without its compressed or large text and its colour profile, which is never applied.

    None if it is no PNG, or has no such chunk.
    """
    if not encoded.startswith(_PNG):
        return None
    kept, place = [_PNG], len(_PNG)
    while place + 8 <= len(encoded):
        length, kind = int.from_bytes(encoded[place : place + 4], "big"), encoded[place + 4 : place + 8]
        end = place + 12 + length
        large = kind in {b"tEXt", b"iTXt"} and length > _LARGE
        compressed = kind in {b"zTXt", b"iCCP"} or (kind == b"iTXt" and _is_compressed(encoded[place + 8 : end]))
        if not (large or compressed):
            kept.append(encoded[place:end])
        place = end
    shorter = b"".join(kept)
    return shorter if len(shorter) < len(encoded) else None


def _is_compressed(text: bytes) -> bool:
    """The flag of a chunk iTXt, which follows its keyword."""
    return text.partition(b"\0")[2][:1] == b"\x01"
