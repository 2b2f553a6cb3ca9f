"""Any image of a user as upright 8-bit RGB, or the reason why it cannot be read."""

from __future__ import annotations

import importlib.util
import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from compoundnet.base import limits
from compoundnet.base.errors import CompoundNetError, first_line
from compoundnet.base.image_damage import check_scans, is_blank, taking_damaged, without_text
from compoundnet.base.image_values import FoundRange, Range, deep_values, eight_bits, find_range, is_deep, stated_range
from compoundnet.base.inputs import instead_of_file, problem_with
from compoundnet.base.progress import ignore

# An image before it is decoded: a file's bytes, or pixels uint8[H, W] or uint8[H, W, 3].
Encoded = bytes | NDArray[np.uint8]

# The formats that are read, by PIL's names, in the order in which they are tried; TGA is last, because it has no
# signature. PIL opens others, which wrap an image of any format, so that no limit holds for it and PostScript is
# interpreted by Ghostscript (IPTC); whose header states another size than the image inside (BLP, ICNS, ICO); that
# unpack without a limit (FITS); or that PIL hands to other programs (EPS, WMF).
_FORMATS = (
    "JPEG", "PNG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "JPEG2000", "AVIF", "HEIF", "PPM", "PCX", "PSD", "QOI", "SGI",
    "SUN", "TGA",
)  # fmt: skip
# Suffixes of images that are not read: JPEG XL, camera raw files, vector graphics, medical and astronomical images,
# icons, textures, animations.
_OTHER_IMAGES = (
    ".jxl", ".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2", ".svg", ".eps", ".wmf", ".emf", ".dcm",
    ".fit", ".fits", ".cur", ".icns", ".ico", ".xbm", ".xpm", ".blp", ".dds", ".dcx", ".flc", ".fli",
)  # fmt: skip
_GET_HEIF = "pip install 'compoundnet[heif]'"
_GET_AVIF = "pip install --upgrade pillow"
_CONVERT = "convert them to JPEG or PNG"
# The brands in the box `ftyp` with which HEIC, HEIF and AVIF files start: what to call the image, and what reads it.
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"), ("a HEIC image", _GET_HEIF)),
    **dict.fromkeys((b"avif", b"avis"), ("an AVIF image", _GET_AVIF)),
}
# EXIF's orientations that are not upright, and what turns them upright.
_TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class EncodedImage(NamedTuple):
    """An image that is not a file: its name, for messages and results, and its content or pixels."""

    name: str
    content: Encoded


class UnreadableImageError(CompoundNetError):
    """An image that cannot be read.

    Attributes:
        path: The file, or the image's name in its data set.
        reason: The reason, as the second half of a sentence.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class _UnknownImageError(UnidentifiedImageError):
    """No format is recognised; the message says what the content looks like, as the second half of a sentence."""

    def __init__(self, content: bytes) -> None:
        if not content:
            looks = "is empty"
        elif content[4:8] == b"ftyp" and content[8:12] in _BRANDS:
            name, advice = _BRANDS[content[8:12]]
            looks = f"is {name}, which cannot be read in this installation: {advice}"
        elif content.startswith((b"II*\0", b"MM\0*")):
            looks = "is a TIFF image of a kind that cannot be read, or is damaged; convert it to 8 or 16 bits a value"
        else:
            looks = instead_of_file(content) or "is not an image in a format that can be read"
        super().__init__(looks)


@cache
def image_formats() -> tuple[str, ...]:
    """PIL's names of the formats that can be read in this installation, in the order in which they are tried."""
    Image.init()
    if importlib.util.find_spec("pillow_heif") is not None:
        from pillow_heif import register_heif_opener  # noqa: PLC0415  an extra

        register_heif_opener()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@cache
def image_suffixes() -> frozenset[str]:
    """The file name suffixes of these formats, in lower case, with the dot."""
    formats = image_formats()
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats)


@cache
def unread_suffixes() -> Mapping[str, str]:
    """The suffixes of images that cannot be read in this installation, in lower case, each with what to do about it."""
    known = dict.fromkeys((".heic", ".heics", ".heif", ".heifs", ".hif"), _GET_HEIF)
    known |= dict.fromkeys((".avif", ".avifs"), _GET_AVIF) | dict.fromkeys(_OTHER_IMAGES, _CONVERT)
    return {suffix: advice for suffix, advice in known.items() if suffix not in image_suffixes()}


def unread_files(names: Iterable[str]) -> str | None:
    """Say in one line which of the files are images that cannot be read in this installation; None if none are."""
    counts = Counter(os.path.splitext(name)[1].lower() for name in names)  # noqa: PTH122  called a million times
    found = {suffix: counts[suffix] for suffix in sorted(counts.keys() & unread_suffixes().keys())}
    if not found:
        return None
    by_advice: dict[str, list[str]] = {}
    for suffix, count in found.items():
        by_advice.setdefault(unread_suffixes()[suffix], []).append(f"{count:,} {suffix}")
    parts = "; ".join(f"{', '.join(kinds)} ({advice})" for advice, kinds in by_advice.items())
    total = sum(found.values())
    subject = "1 image is left out, because it" if total == 1 else f"{total:,} images are left out, because they"
    return f"{subject} cannot be read here: {parts}"


class Reading(msgspec.Struct, frozen=True):
    """How images are read, beyond what their files say.

    Attributes:
        range: The values that become 0 and 255 in images with more than 8 bits a value; None: see `to_rgb`.
        allow_truncated: Whether a truncated or damaged image is used as far as it can be decoded.
    """

    range: Range | None = None
    allow_truncated: bool = False


_AS_IT_IS = Reading()


def read_image(
    path: str | os.PathLike[str], reading: Reading = _AS_IT_IS, *, damaged: Callable[[str], object] = ignore
) -> Image.Image:
    """Read an image file as upright 8-bit RGB (see `to_rgb`); of several frames, the first.

    Args:
        path: The file.
        reading: How to read it.
        damaged: Called with the damage of an image that is used as far as it can be decoded.

    Raises:
        UnreadableImageError: the file is missing, a folder, not an image, truncated, or has more than twice
            PIL.Image.MAX_IMAGE_PIXELS (179 million) pixels. PIL warns from half of that.
    """
    file = Path(path)
    problem = problem_with(file, limits.IMAGE_BYTES)
    if problem is not None:
        raise UnreadableImageError(os.fspath(path), problem)
    try:
        return _read(lambda: check_scans(Image.open(file, formats=image_formats())), file.read_bytes, reading, damaged)
    except Exception as error:  # a damaged file can make a decoder raise anything
        raise UnreadableImageError(os.fspath(path), reason(error, file)) from error


def decode(encoded: Encoded, reading: Reading = _AS_IT_IS, *, damaged: Callable[[str], object] = ignore) -> Image.Image:
    """Decode an image in memory as `read_image` does. Raises the exceptions of PIL; see `image_errors`."""
    if not isinstance(encoded, bytes):
        return to_rgb(encoded, reading.range)
    return _read(lambda: open_encoded(encoded), lambda: encoded, reading, damaged)


def _read(
    open_image: Callable[[], Image.Image],
    content: Callable[[], bytes],
    reading: Reading,
    damaged: Callable[[str], object],
) -> Image.Image:
    try:
        return _decoded(open_image, reading.range)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise
    except Exception as error:  # a damaged file can make a decoder raise anything
        if isinstance(error, OSError) and error.errno is not None:  # the file system's
            raise
        encoded = content()
        shorter = without_text(encoded)
        if shorter is not None:
            return decode(shorter, reading, damaged=damaged)
        if reading.allow_truncated:
            partial = _partial(encoded, reading.range)
            if partial is not None:
                text = first_line(error)
                damaged("is truncated" if "truncated" in text else f"is damaged ({text})")
                return partial
        if isinstance(error, UnidentifiedImageError):
            raise _UnknownImageError(encoded) from error
        raise


def _partial(encoded: bytes, value_range: Range | None) -> Image.Image | None:
    """What can be decoded of a damaged image; None if that is nothing."""
    try:
        with taking_damaged():
            image = _decoded(lambda: open_encoded(encoded), value_range)
    except Exception:  # as above
        return None
    return None if is_blank(image) else image


def _decoded(open_image: Callable[[], Image.Image], value_range: Range | None) -> Image.Image:
    with open_image() as image:
        return to_rgb(image, value_range, again=open_image)


def find_range_of_files(images: Iterable[str | os.PathLike[str] | EncodedImage]) -> FoundRange | None:
    """Find the range of those with more than 8 bits a value among files, or images in memory with names; None if there
    are none."""
    given = [image if isinstance(image, EncodedImage) else os.fspath(image) for image in images]

    def opened(number: int) -> Image.Image | None:
        image = given[number]
        if isinstance(image, EncodedImage):
            return _opened_or_none(lambda: image.content)
        if problem_with(image, limits.IMAGE_BYTES) is not None:
            return None
        try:
            return Image.open(image, formats=image_formats())
        except Exception:  # perhaps a PNG with large text before its pixels
            return _opened_or_none(Path(image).read_bytes)

    return find_range((image.name if isinstance(image, EncodedImage) else image for image in given), opened)


def _opened_or_none(read: Callable[[], Encoded]) -> Image.Image | None:
    """Open what `read` returns; None for what cannot be read, since whoever reads it reports why, and for pixels."""
    try:
        encoded = read()
        return open_encoded(encoded) if isinstance(encoded, bytes) else None
    except Exception:
        return None


def find_range_in(encoded: bytes) -> FoundRange | None:
    """Find the range of one image with more than 8 bits a value; None for others."""
    return find_range([""], lambda _: _opened_or_none(lambda: encoded))


def open_encoded(encoded: bytes) -> Image.Image:
    """Read an image's header only; PIL decodes the pixels when they are first used."""
    try:
        return check_scans(Image.open(io.BytesIO(encoded), formats=image_formats()))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise
    except Exception:  # large text before the pixels of a PNG
        shorter = without_text(encoded)
        if shorter is None:
            raise
        return Image.open(io.BytesIO(shorter), formats=image_formats())


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
    if isinstance(error, UnreadableImageError):
        return error.reason
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        limit = (Image.MAX_IMAGE_PIXELS or 0) * (2 if isinstance(error, Image.DecompressionBombError) else 1)
        return f"has more than {limit:,} pixels, the limit that guards against decompression bombs; make it smaller"
    if isinstance(error, UnidentifiedImageError):
        return str(error) if isinstance(error, _UnknownImageError) else "is not an image in a format that can be read"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    return f"cannot be decoded: {first_line(error)}"


def to_rgb(
    image: Image.Image | NDArray[Any],
    value_range: Range | None = None,
    *,
    again: Callable[[], Image.Image] | None = None,
) -> Image.Image:
    """Convert an image to upright 8-bit RGB.

    - EXIF's orientation is applied.
    - Transparency is dropped, as in TensorFlow's decoder, torchvision and timm: the colours below it are kept.
    - Images with more than 8 bits a value are scaled from `value_range`. Without one, what the file states holds
      (PNG's sBIT, TIFF's MaxSampleValue), or else 0..65535 for whole numbers and 0..1 for floats if all values fit.
      Values that do not fit are scaled from the minimum and maximum of the image.
    - CMYK, YCbCr, Lab and HSV go through PIL's conversion; colour profiles are not applied, as in the reference.

    Args:
        image: A PIL image of any mode, or an array uint8[H, W], uint8[H, W, 3 or 4] or uint16[H, W].
        value_range: The values that become 0 and 255 in images with more than 8 bits a value.
        again: Opens the same file once more. Without it, colour of 16 bits is reduced to 8 by PIL.
    """
    opened = image if isinstance(image, Image.Image) else _from_array(image)
    if is_deep(opened, colour=again is not None):
        stated = stated_range(opened)
        grey_or_colour = Image.fromarray(eight_bits(deep_values(opened, again), value_range, stated))
        if grey_or_colour.mode != "RGB":
            grey_or_colour = grey_or_colour.convert("RGB")
        turned = _TURNED.get(orientation(opened))
        return grey_or_colour if turned is None else grey_or_colour.transpose(turned)
    opened.load()
    opened = _upright(opened)
    if opened.mode == "RGB":
        return opened
    if opened.has_transparency_data:  # through RGBA, because PIL warns about palettes with transparent colours
        opened = opened.convert("RGBA")
    return opened.convert("RGB")


def orientation(image: Image.Image) -> int:
    """Return EXIF's orientation of an opened image: 1 is upright, and so is one whose EXIF data is damaged."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Pillow raises several types
        return 1


def _upright(image: Image.Image) -> Image.Image:
    try:
        return image if orientation(image) == 1 else ImageOps.exif_transpose(image)
    except Exception:  # as above
        return image


def _from_array(array: NDArray[Any]) -> Image.Image:
    if not isinstance(array, np.ndarray):
        raise CompoundNetError(
            f"an image is a file, a PIL image or a NumPy array, got {type(array).__name__}; give several one at a time"
        )
    colour = array.ndim == 3 and array.shape[-1] in (3, 4) and array.dtype == np.uint8
    grey = array.ndim == 2 and array.dtype in (np.uint8, np.uint16)
    if not (colour or grey) or 0 in array.shape:
        raise CompoundNetError(
            f"an image as an array must be uint8[H, W, 3], uint8[H, W, 4], uint8[H, W] or uint16[H, W],"
            f" got {array.dtype}{list(array.shape)}"
        )
    return Image.fromarray(np.ascontiguousarray(array))
