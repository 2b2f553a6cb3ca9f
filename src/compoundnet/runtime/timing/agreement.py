"""How often a network predicts in each way what it predicts in float32: computed once on a machine, then cached."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from compoundnet.base.images import UnreadableImageError
from compoundnet.models import Postprocess, Preprocess
from compoundnet.runtime.backends.choices import LEAST_IMAGES
from compoundnet.runtime.backends.precisions import Way
from compoundnet.runtime.backends.session import open_session
from compoundnet.runtime.cache import location, stored
from compoundnet.runtime.session_source import SessionSource
from compoundnet.runtime.timing.fastest import way_identity

_log = logging.getLogger(__name__)
Item = TypeVar("Item")
# Returns the images on which precisions are compared, float32[N, C, H, W].
ProbeImages: TypeAlias = Callable[[], NDArray[np.float32]]
# The most images that are used.
MOST_IMAGES = 100
_BATCH = 8
_RESULT = "agreement.json"


class Agreement(msgspec.Struct, frozen=True, omit_defaults=True):
    """The fraction of the images for which a way predicts what float32 predicts.

    Attributes:
        images: The number of images.
        shares: The fraction, 0 to 1, by the name of the way.
        checked_on: The images, in words: those given now, or those of an earlier run.
    """

    images: int
    shares: dict[str, float]
    checked_on: str = "images"


def agreement_of(
    source: SessionSource, reference: Way, ways: Sequence[Way], threads: int, device: str, images: ProbeImages | None
) -> Agreement | None:
    """Return the agreement of ways with a reference; None if it is not in the cache and there are too few images.

    Args:
        source: The network.
        reference: A way in float32.
        ways: The ways to compare with it.
        threads: Threads of the network.
        device: The device of torch.
        images: Returns the images; called only if the cache lacks the agreement, which is that of the images that were
            given first, also if others are given later.
    """
    identity = way_identity(source, (reference, *ways), device)
    kept = identity is not None and location("agreement", source.name, identity).exists()
    pixels = None if kept or images is None else images()
    if not kept and (pixels is None or len(pixels) < LEAST_IMAGES):
        return None

    measured: list[Agreement] = []

    def make(folder: Path) -> None:
        compared = images() if pixels is None and images is not None else pixels
        if compared is None or len(compared) < LEAST_IMAGES:  # the cache's was damaged
            raise _TooFewImagesError
        measured.append(_measure(source, reference, ways, threads, device, compared))
        (folder / _RESULT).write_bytes(msgspec.json.encode(measured[0]))

    doing = f"comparing {', '.join(map(str, ways))} with {reference}"
    with suppress(_TooFewImagesError), stored("agreement", source.name, identity, make, doing) as folder:
        if measured:
            return measured[0]
        earlier = msgspec.json.decode((folder / _RESULT).read_bytes(), type=Agreement)
        return msgspec.structs.replace(earlier, checked_on="images given earlier")
    return None


class _TooFewImagesError(Exception):
    """There are too few images for a comparison."""


def read_probe(
    preprocess: Preprocess, paths: Sequence[str | os.PathLike[str]], most: int = MOST_IMAGES
) -> NDArray[np.float32]:
    """Return the pixels float32[N, 3, size, size] of files spread evenly over `paths`, those that can be read.

    A range of values that had to be found for them is logged.
    """
    preprocess, found_range = preprocess.with_range_of(paths)
    if found_range is not None:
        _log.warning(found_range)
    found = []
    for path in spread(paths, most):
        with suppress(UnreadableImageError):
            found.append(preprocess.pixels(path))
    return np.stack(found) if found else np.empty((0, 3, preprocess.size, preprocess.size), np.float32)


def spread(items: Sequence[Item], most: int) -> Sequence[Item]:
    """Return at most `most` items, evenly spread over the sequence."""
    return items if len(items) <= most else [items[len(items) * place // most] for place in range(most)]


def _measure(
    source: SessionSource,
    reference: Way,
    ways: Sequence[Way],
    threads: int,
    device: str,
    pixels: NDArray[np.float32],
) -> Agreement:
    expected = _decided(source, reference, threads, device, pixels)
    shares = {str(way): share(_decided(source, way, threads, device, pixels), expected) for way in ways}
    return Agreement(len(pixels), shares)


def share(found: NDArray[np.generic], expected: NDArray[np.generic]) -> float:
    """Return the fraction of images with equal predictions, as `Postprocess.decided` returns them."""
    same = found == expected
    return float(same.all(axis=1).mean() if same.ndim > 1 else same.mean())


def _decided(
    source: SessionSource, way: Way, threads: int, device: str, pixels: NDArray[np.float32]
) -> NDArray[np.generic]:
    run = open_session(source, way.backend, threads, device, way.precision)
    batches = [run(pixels[start : start + _BATCH]) for start in range(0, len(pixels), _BATCH)]
    return (source.postprocess or Postprocess()).decided(np.concatenate(batches))
