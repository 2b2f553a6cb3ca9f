"""Images that arrive over HTTP: decoded from memory, within a limit of pixels, with a note of what was assumed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from PIL import Image

from compoundnet.base.image_values import Range
from compoundnet.base.images import Reading, UnreadableImageError, decode, find_range_in, open_encoded, reason

_BOMB = (Image.DecompressionBombWarning, Image.DecompressionBombError)


class Upload(NamedTuple):
    """A decoded image.

    Attributes:
        image: Upright 8-bit RGB.
        assumed: Whether the range of its values, of which each has more than 8 bits, had to be assumed.
        damaged: Whether the file is truncated or damaged, and is used as far as it can be decoded.
        note: What was assumed, and the damage; None if there is nothing to say.
    """

    image: Image.Image
    assumed: bool
    damaged: bool
    note: str | None


@contextmanager
def bombs_raise() -> Iterator[None]:
    """Let PIL raise for an image of more than PIL.Image.MAX_IMAGE_PIXELS (89 million), where it only warns otherwise.

    The setting applies to all threads, so a server with several sets it once.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def read_upload(
    content: bytes,
    name: str,
    value_range: Range | None = None,
    *,
    allow_truncated: bool = False,
    max_pixels: int | None = None,
) -> Upload:
    """Decode an image file by the rules of `base.images.read_image`; to be called inside `bombs_raise`.

    Args:
        content: The bytes of the file.
        name: The name of the file, for messages.
        value_range: The values that become 0 and 255 in images with more than 8 bits a value.
        allow_truncated: Whether a truncated or damaged image is used as far as it can be decoded.
        max_pixels: The most pixels; by default PIL's limit. Checked before the pixels are decoded.

    Raises:
        UnreadableImageError: The content is not an image, is damaged, or has too many pixels.
    """
    damage: list[str] = []
    try:
        if max_pixels is not None:
            _check_pixels(content, name, max_pixels)
        found = None if value_range is not None else find_range_in(content)
        used = value_range if found is None else (found.low, found.high)
        image = decode(content, Reading(used, allow_truncated), damaged=damage.append)
    except _BOMB as error:
        limit = f"{min(Image.MAX_IMAGE_PIXELS or 0, max_pixels or Image.MAX_IMAGE_PIXELS or 0):,}"
        raise UnreadableImageError(name, f"has more than {limit} pixels; make it smaller") from error
    except UnreadableImageError:
        raise
    except Exception as error:  # a damaged file makes a decoder raise whatever its code trips over
        raise UnreadableImageError(name, reason(error)) from error
    notes = [] if found is None else [found.of_one()]
    notes += [f"The file {damage[0]}: it is used as far as it can be decoded."] if damage else []
    return Upload(image, found is not None, bool(damage), " ".join(notes) or None)


def _check_pixels(content: bytes, name: str, most: int) -> None:
    try:
        with open_encoded(content) as image:
            pixels = image.width * image.height
    except _BOMB:
        raise
    except Exception:  # whoever decodes it says why it cannot be read
        return
    if pixels > most:
        raise UnreadableImageError(name, f"has {pixels:,} pixels, and {most:,} is the limit; make it smaller")
