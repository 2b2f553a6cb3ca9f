"""The settings of the service: its limits on bytes, pixels, time and waiting images, and how batches are made."""

from __future__ import annotations

import msgspec
from PIL import Image

from compoundnet.base import check, limits

# Images of one request. A client with more sends several requests.
_IMAGES = 64
_SECONDS = 3600.0


class ServiceSettings(msgspec.Struct, frozen=True):
    """The settings of the service.

    Attributes:
        batch: The most images that the network runs at a time.
        batch_wait: How long the first image of a batch waits for others, in seconds. With 0 a batch holds what arrived
            while the network ran the one before, which is fastest on a CPU.
        max_queue: The most images that are received, waiting or running. Requests beyond it are answered with 429.
        max_bytes: The most bytes of a request's body.
        max_pixels: The most pixels of an image.
        timeout: The most seconds of a request, from its first byte to its answer, and of a connection without one.
        allow_truncated: Whether truncated or damaged images are used as far as they can be decoded.

    Raises:
        CompoundNetError: A setting is out of range.
    """

    batch: int = 8
    batch_wait: float = 0.0
    max_queue: int = 64
    max_bytes: int = 20_000_000
    max_pixels: int = 50_000_000
    timeout: float = 30.0
    allow_truncated: bool = False

    def __post_init__(self) -> None:
        check(1 <= self.batch <= 1024, f"batch must be 1 to 1024 images, got {self.batch}")
        check(1 <= self.max_queue <= 100_000, f"max_queue must be 1 to 100,000 images, got {self.max_queue}")
        check(0 < self.timeout <= _SECONDS, f"timeout must be above 0 and at most an hour, got {self.timeout:g} s")
        check(
            0 <= self.batch_wait < self.timeout,
            f"batch_wait must be at least 0 and less than the timeout of {self.timeout:g} s, got {self.batch_wait:g} s",
        )
        most = limits.IMAGE_BYTES
        check(1 <= self.max_bytes <= most, f"max_bytes must be 1 to {most:,}, got {self.max_bytes:,}")
        pixels = Image.MAX_IMAGE_PIXELS or 0  # from where PIL calls an image a decompression bomb
        check(1 <= self.max_pixels <= pixels, f"max_pixels must be 1 to {pixels:,}, got {self.max_pixels:,}")

    @property
    def max_images(self) -> int:
        """The most images of one request."""
        return min(_IMAGES, self.max_queue)
