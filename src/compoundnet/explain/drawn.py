"""A page of photos as a file: JPEG to look at, PNG where it is worked on further."""

from __future__ import annotations

import io
from typing import NamedTuple

from PIL import Image, PngImagePlugin

# Twenty photos with three maps each are 16 MB as PNG, 3.5 MB as JPEG. At this quality, and with the colours as fine as
# the lightness, letters and frames stay sharp.
_QUALITY = 85
# A JPEG's comment holds no more than 65,533 bytes.
_COMMENT = 65_000
# zlib's: its usual 6 takes twice as long and saves a twentieth.
_COMPRESSION = 4


class Drawn(NamedTuple):
    """A drawn page, and what it shows in words, which goes into the file."""

    image: Image.Image
    description: str

    def jpeg(self) -> bytes:
        """With the description as its comment, UTF-8."""
        comment = self.description.encode()[:_COMMENT].decode(errors="ignore").encode()
        content = io.BytesIO()
        self.image.save(content, "JPEG", quality=_QUALITY, subsampling="4:4:4", comment=comment)
        return content.getvalue()

    def png(self) -> bytes:
        """With the description under `Description`."""
        about = PngImagePlugin.PngInfo()
        about.add_itxt("Description", self.description)
        content = io.BytesIO()
        self.image.save(content, "PNG", pnginfo=about, compress_level=_COMPRESSION)
        return content.getvalue()
