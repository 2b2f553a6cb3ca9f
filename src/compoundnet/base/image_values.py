"""Images with more than 8 bits a value ("deep" images): the range of their values, and their conversion to 8 bits.

Cameras, microscopes and scanners write 10, 12 or 14 significant bits into files of 16, or floats of any range. One
range must hold for all images of a data set: scaling each by its own would undo differences in brightness.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from compoundnet.base.errors import CompoundNetError

_log = logging.getLogger(__name__)

# The values that become 0 and 255.
Range = tuple[float, float]

_FULL: Range = (0.0, 65535.0)
_DEPTHS = (8, 10, 12, 14, 16)
_MAX_SAMPLE, _S_MAX_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 281, 341, 262, 0  # TIFF tags, and a value
# Suffixes of formats that never have more than 8 bits a value.
_EIGHT_BITS = frozenset({".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".webp"})
# Formats whose values PIL scales to 16 bits by what the file says.
_SCALED = frozenset({"JPEG2000", "PPM"})
# PIL's raw modes, without the byte order
_SIXTEEN_BIT_COLOURS = frozenset({"RGB;16", "RGBA;16", "RGBX;16"})
_GREY_AND_ALPHA = "LA;16B"
# Images whose values are examined to find the range of a data set; more would take seconds.
_EXAMINED = 256
# Values that are scaled at a time.
_BAND = 1 << 16


class FoundRange(msgspec.Struct, frozen=True):
    """The range of the deep images of a data set.

    Attributes:
        low: The value that becomes 0.
        high: The value that becomes 255.
        guessed: Whether no file states it, so that it follows from the values.
        least: The smallest value seen.
        most: The largest value seen.
        deep: Number of deep images among those examined.
        examined: Number of images examined.
    """

    low: float
    high: float
    guessed: bool
    least: float
    most: float
    deep: int
    examined: int

    def of_one(self) -> str:
        """Return what was assumed about a single image, as a sentence without commands."""
        if not self.guessed:
            return f"The image has more than 8 bits a value, from {self.low:g} to {self.high:g}."
        return (
            f"The image has more than 8 bits a value and does not state their range: {self.low:g} to {self.high:g} is"
            f" assumed, because the values are {self.least:g} to {self.most:g}."
        )

    def __str__(self) -> str:
        found = f"{self.deep:,} of {self.examined:,} images examined have more than 8 bits a value"
        if not self.guessed:
            return f"{found}: their range is {self.low:g} to {self.high:g}"
        return (
            f"{found} and do not state their range: {self.low:g} to {self.high:g} is assumed, because their values are"
            f" {self.least:g} to {self.most:g}; --range LOW:HIGH sets another (in training --set range=[LOW,HIGH])"
        )


def parse_range(text: str | None) -> Range | None:
    """Read `LOW:HIGH`; None stays None. Raises CompoundNetError that says what is expected."""
    if text is None:
        return None
    low, separator, high = text.partition(":")
    try:
        found = float(low), float(high)
    except ValueError:
        found = 0.0, 0.0
    if not separator or not found[0] < found[1] or not np.isfinite(found).all():
        raise CompoundNetError(f"a range is LOW:HIGH, two numbers that rise, such as 0:4095; got {text!r}")
    return found


def is_deep(image: Image.Image, *, colour: bool = True) -> bool:
    """Whether an image has more than 8 bits a value; with `colour`, also RGB of 16 bits that is not decoded yet."""
    return image.mode in {"I", "F"} or image.mode.startswith("I;16") or (colour and _low_bytes(image) is not None)


def find_range(names: Iterable[str], open_image: Callable[[int], Image.Image | None]) -> FoundRange | None:
    """Find the one range of a data set's deep images: what the files state, or else what their values suggest.

    Whole numbers are taken for values of 8, 10, 12, 14 or 16 bits; floats for 0 to 1, or 0 to 255, if all fit.

    Args:
        names: The images' names, whose suffixes say which can be deep.
        open_image: Opens an image by its number in `names`, not decoded; None where that fails.

    Returns:
        The range, or None if no image is deep. At most 256 images, evenly spread, are examined.
    """
    able = [number for number, name in enumerate(names) if os.path.splitext(name)[1].lower() not in _EIGHT_BITS]  # noqa: PTH122  called a million times
    chosen = able if len(able) <= _EXAMINED else [able[place * len(able) // _EXAMINED] for place in range(_EXAMINED)]
    ranges: list[Range] = []
    extremes: list[Range] = []
    whole, stated_by_all, examined = True, True, 0
    for number in chosen:
        with_header = open_image(number)
        if with_header is None:
            continue
        with with_header as image:
            examined += 1
            if not is_deep(image):
                continue
            try:
                stated, values = stated_range(image), deep_values(image, partial(open_image, number))
            except Exception:  # damaged: whoever reads it reports it
                continue
        low, high = _extremes(values)
        extremes.append((low, high))
        whole &= values.dtype.kind in "iu"
        if stated is not None and low >= stated[0] and high <= stated[1]:
            ranges.append(stated)
        else:
            stated_by_all = False
    if not extremes:
        return None
    least, most = min(low for low, _ in extremes), max(high for _, high in extremes)
    if stated_by_all:
        low, high, guessed = min(low for low, _ in ranges), max(high for _, high in ranges), False
    else:
        (low, high), guessed = _suggested(least, most, whole)
        low, high = min([low, *(one for one, _ in ranges)]), max([high, *(one for _, one in ranges)])
    return FoundRange(low, high, guessed, least, most, len(extremes), examined)


def _suggested(least: float, most: float, whole: bool) -> tuple[Range, bool]:
    """A range for values from `least` to `most`, and whether it is a guess."""
    if whole and least >= 0 and most <= _FULL[1]:
        bits = next(bits for bits in _DEPTHS if most < 2**bits)
        return (0.0, float(2**bits - 1)), bits < _DEPTHS[-1]
    if least >= 0 and most <= 1:
        return (0.0, 1.0), False
    if least >= 0 and most <= 255:
        return (0.0, 255.0), True
    return (least, most if most > least else least + 1), True


def stated_range(image: Image.Image) -> Range | None:
    """Return the range that a file states: PNG's sBIT, TIFF's MaxSampleValue or a depth below 16 bits."""
    if image.format in _SCALED:
        return _FULL
    if image.format == "PNG":
        bits = _significant_bits(image)
        return None if bits is None else (0.0, float(2**bits - 1))
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        for tag in (_S_MAX_SAMPLE, _MAX_SAMPLE):
            most = np.max(tags.get(tag, 0))
            if most > 0:
                return (0.0, float(most))
        bits = max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,)))
        return (0.0, float(2**bits - 1)) if bits < 16 else None
    return None


def _significant_bits(image: Image.Image) -> int | None:
    """The chunk sBIT of a PNG, which PIL does not read: the most significant bits of a colour channel."""
    file = getattr(image, "fp", None)
    if file is None:
        return None
    place = file.tell()
    try:
        file.seek(8)
        while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
            length = int.from_bytes(head[:4], "big")
            if head[4:] == b"sBIT":
                return max(file.read(length)[:3], default=None)
            file.seek(length + 4, os.SEEK_CUR)
        return None
    finally:
        file.seek(place)


def deep_values(image: Image.Image, again: Callable[[], Image.Image | None] | None) -> NDArray[Any]:
    """Decode a deep image to its values, [H, W] or [H, W, 3].

    Args:
        image: Opened and not decoded, or in memory.
        again: Opens the same image once more; called only for RGB of 16 bits, of which PIL decodes one byte at a time.
    """
    raw = _low_bytes(image)
    if raw == _GREY_AND_ALPHA:  # one decode gives both bytes of grey as red and green
        _decode_as(image, "RGBA")
        both = np.asarray(image)
        grey: NDArray[np.uint16] = both[..., 0].astype(np.uint16)
        grey *= 256
        grey += both[..., 1]
        return grey
    if raw is not None:
        low = again() if again is not None else None
        assert low is not None
        with low:
            _decode_as(low, raw)
            image.load()
            colours: NDArray[np.uint16] = np.asarray(image)[..., :3].astype(np.uint16)
            colours *= 256
            colours += np.asarray(low)[..., :3]
            return colours
    image.load()
    values: NDArray[Any] = np.asarray(image)
    if image.mode == "F":
        values = np.nan_to_num(values, posinf=0, neginf=0)
    elif isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        values = int((stated_range(image) or _FULL)[1]) - values.astype(np.int64)  # PIL inverts 8 bits only
    return values


def _low_bytes(image: Image.Image) -> str | None:
    """PIL's raw mode for the low bytes of colour of 16 bits, of which its own takes the high ones; None for others."""
    tiles = getattr(image, "tile", None)
    given = tiles[0].args if tiles else None
    raw = given[0] if isinstance(given, tuple) and given else given
    if raw == _GREY_AND_ALPHA:
        return _GREY_AND_ALPHA
    if not isinstance(raw, str) or raw[:-1] not in _SIXTEEN_BIT_COLOURS:
        return None
    big = raw[-1] == "B" or (raw[-1] == "N" and sys.byteorder == "big")
    return f"{raw[:-1]}{'L' if big else 'B'}"


def _decode_as(image: Image.Image, raw: str) -> None:
    """Decode with another raw mode than the one that PIL chose."""
    image.tile = [  # type: ignore[attr-defined]  # an ImageFile
        tile._replace(args=raw if isinstance(tile.args, str) else (raw, *tile.args[1:]))
        for tile in image.tile  # type: ignore[attr-defined]
    ]
    image.load()


def eight_bits(values: NDArray[Any], value_range: Range | None, stated: Range | None) -> NDArray[np.uint8]:
    """Scale values to 0..255.

    Args:
        values: From `deep_values`.
        value_range: The range of the data set or the model; None uses what the file states, or else 0..65535 for whole
            numbers and 0..1 for floats, or the image's own minimum and maximum if its values do not fit.
        stated: From `stated_range`.
    """
    low, high = _extremes(values)
    if value_range is not None:
        if low < value_range[0] or high > value_range[1]:
            _warn_once(
                "clipped",
                f"values of images are outside the range {value_range[0]:g} to {value_range[1]:g}: they are clipped",
            )
        low, high = value_range
    elif stated is not None and stated[0] <= low and high <= stated[1]:
        low, high = stated
    else:
        full = _FULL if values.dtype.kind in "iu" else (0.0, 1.0)
        if full[0] <= low and high <= full[1]:
            if full is _FULL and high < 2 ** _DEPTHS[-2]:
                _warn_once(
                    "dark",
                    f"an image of 16 bits has values up to {high:g} only and does not state its range: it is read as"
                    " 0 to 65535, and is dark; set `range` of the preprocessing",
                )
            low, high = full
        else:
            _warn_once(
                "own range",
                f"an image has values from {low:g} to {high:g}, which are scaled for this image alone; set `range` of"
                " the preprocessing",
            )
    scaled = np.empty(values.shape, np.uint8)
    rows = max(1, _BAND // max(1, values[:1].size))
    for top in range(0, len(values), rows):  # a whole image in float64 would take eight times as much
        band = values[top : top + rows].astype(np.float64)
        scaled[top : top + rows] = np.rint((band - low) * (255 / (high - low or 1))).clip(0, 255)
    return scaled


def _extremes(values: NDArray[Any]) -> Range:
    return float(values.min()), float(values.max())


_warned = set[str]()


def _warn_once(kind: str, text: str) -> None:
    if kind not in _warned:
        _warned.add(kind)
        _log.warning(text)
