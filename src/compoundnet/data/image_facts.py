"""Facts on every image of a data set, from one pass over its files: size, mode, format, digest, and what is wrong."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from compoundnet.base import CompoundNetError, Progress, ignore
from compoundnet.base.image_values import is_deep
from compoundnet.base.images import Encoded, UnreadableImageError, image_errors, open_encoded, orientation
from compoundnet.base.machine import check_threads
from compoundnet.data.dataset import Dataset, Split
from compoundnet.data.forking import forks_quietly

_CHUNK = 256
# For so many images, starting processes takes less time than they save.
_MANY = 5000
# JPEG decodes at an eighth of its size if that is at least this: damage shows as at full size, in a third of the time.
_SMALL = (64, 64)
# Sides of the images whose low frequencies are the hash, and of those that confirm it.
_HASHED, _FREQUENCIES, _THUMB = 32, 8, 16


class BadImage(msgspec.Struct, frozen=True):
    """An image that cannot be read, or is damaged.

    Attributes:
        split: The name of its split.
        name: Its name.
        reason: The reason, as the second half of a sentence.
        kind: "empty" (no bytes), "damaged" (an image that cannot be decoded to its end) or "unreadable".
    """

    split: str
    name: str
    reason: str
    kind: str = "unreadable"


class ImageFacts(msgspec.Struct, frozen=True, eq=False):
    """The facts on the images of a split, in its order.

    Attributes:
        width: int32[N], pixels, of the upright image; 0 where it cannot be read.
        height: int32[N], pixels.
        kind: int16[N], the place of mode and format in `kinds`; -1 where it cannot be read.
        kinds: The modes and formats of PIL, such as ("RGB", "JPEG"); "animated" follows the format where it holds
            several frames.
        digest: uint64[N, 2], BLAKE2b of the bytes; equal for copies.
        bad: The images that cannot be read.
        damaged: The images that are used as far as they can be decoded, where that is allowed.
        hash: uint64[N], of the low frequencies of brightness; only for near copies.
        thumb: float32[N, 256], 16 x 16 pixels of brightness with mean 0 and length 1, or 0 for images of one colour.
    """

    width: NDArray[np.int32]
    height: NDArray[np.int32]
    kind: NDArray[np.int16]
    kinds: tuple[tuple[str, str], ...]
    digest: NDArray[np.uint64]
    bad: tuple[BadImage, ...]
    damaged: tuple[BadImage, ...]
    hash: NDArray[np.uint64] | None = None
    thumb: NDArray[np.float32] | None = None


def image_facts(
    dataset: Dataset, *, near: bool = False, workers: int | None = None, progress: Progress = ignore
) -> dict[str, ImageFacts]:
    """Read and decode every image once.

    Args:
        dataset: The data; whether damaged images are allowed is part of how its images are read (`read_with`).
        near: Whether to hash what the images show.
        workers: Threads, or for many images processes, that decode; one per core by default.
        progress: Called with the number of images that were just finished.
    """
    count = sum(map(len, dataset.splits.values()))
    found = {name: _Collected(split, near) for name, split in dataset.splits.items()}
    chunks = [
        _Chunk(name, start, min(start + _CHUNK, len(split)), near)
        for name, split in dataset.splits.items()
        for start in range(0, len(split), _CHUNK)
    ]
    with _pool(dataset, check_threads(workers), count) as pool:
        try:
            for chunk, results in zip(chunks, pool.map(_look_at, chunks), strict=True):
                found[chunk.split].add(chunk, results)
                progress(len(results))
        except BrokenExecutor as error:
            raise CompoundNetError(
                f"{dataset.name}: a process that decodes images ended; it may have run out of memory (--threads 1)"
            ) from error
    return {name: collected.facts() for name, collected in found.items()}


class _Chunk(NamedTuple):
    split: str
    start: int
    stop: int
    near: bool


# The data set that this process, or a process that it started, looks at.
_looked_at: Dataset | None = None


def _look_at(chunk: _Chunk) -> list[_Found]:
    assert _looked_at is not None
    split = _looked_at.splits[chunk.split]
    return [_look(split, index, chunk.near) for index in range(chunk.start, chunk.stop)]


def _set_dataset(dataset: Dataset) -> None:
    global _looked_at  # noqa: PLW0603  processes receive the data once, not with each chunk
    _looked_at = dataset


def _begin(dataset: Dataset) -> None:
    """Prepare a process. Ctrl-C reaches every process; the first one ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _set_dataset(dataset)


@contextmanager
def _pool(dataset: Dataset, workers: int, count: int) -> Iterator[Executor]:
    """Yield threads for few images, of which large ones decode in parallel, and processes for many."""
    if workers == 1 or count < _MANY:
        _set_dataset(dataset)
        with ThreadPoolExecutor(workers) as pool:
            yield pool
        return
    with forks_quietly(), ProcessPoolExecutor(workers, initializer=_begin, initargs=(dataset,)) as pool:
        yield pool


class _Collected:
    """The facts on a split, as they come."""

    def __init__(self, split: Split, near: bool) -> None:
        self._split = split
        self._kinds: dict[tuple[str, str], int] = {}
        self._bad: list[BadImage] = []
        self._damaged: list[BadImage] = []
        count = len(split)
        self._facts = ImageFacts(
            np.zeros(count, np.int32), np.zeros(count, np.int32), np.full(count, -1, np.int16), (),
            np.zeros((count, 2), np.uint64), (), (),
            np.zeros(count, np.uint64) if near else None, np.zeros((count, _THUMB**2), np.float32) if near else None,
        )  # fmt: skip

    def add(self, chunk: _Chunk, results: Sequence[_Found]) -> None:
        facts, split = self._facts, self._split
        for index, found in enumerate(results, start=chunk.start):
            facts.digest[index] = np.frombuffer(found.digest, np.uint64)
            if found.damage is not None:
                self._damaged.append(BadImage(split.name, split.image_name(index), found.damage, "damaged"))
            if found.bad is not None:
                self._bad.append(found.bad)
                continue
            facts.width[index], facts.height[index] = found.size
            facts.kind[index] = self._kinds.setdefault(found.kind, len(self._kinds))
            if facts.hash is not None and facts.thumb is not None:
                facts.hash[index], facts.thumb[index] = found.hash, found.thumb

    def facts(self) -> ImageFacts:
        return msgspec.structs.replace(
            self._facts, kinds=tuple(self._kinds), bad=tuple(self._bad), damaged=tuple(self._damaged)
        )


class _Found(msgspec.Struct):
    """The facts on one image."""

    digest: bytes
    size: tuple[int, int] = (0, 0)
    kind: tuple[str, str] = ("", "")
    bad: BadImage | None = None
    damage: str | None = None
    hash: np.uint64 = np.uint64(0)
    thumb: NDArray[np.float32] | None = None


def _look(split: Split, index: int, near: bool) -> _Found:
    encoded: Encoded = b""
    found = _Found(bytes(16))
    try:
        with image_errors(lambda: split.image_name(index)):
            encoded = split.read(index)
            found.digest = digest(encoded)
            _decode(encoded, found, near, lambda: split.image(index))
    except UnreadableImageError:
        _decode_as_training_does(split, index, encoded, found, near)
    return found


def _decode(encoded: Encoded, found: _Found, near: bool, as_training_does: Callable[[], Image.Image]) -> None:
    """Decode an image in the cheapest way that shows every damage. Of more than 8 bits a value, what training sees of
    it is compared with others."""
    with open_encoded(encoded) if isinstance(encoded, bytes) else Image.fromarray(encoded) as image:
        found.size, found.kind = image.size, (image.mode, _format(image))
        image.draft(None, _SMALL)  # only JPEG
        image.load()
        if "exif" in image.info and (turned := orientation(image)) != 1:
            found.size = found.size[::-1] if turned >= 5 else found.size
        if near:
            seen = as_training_does() if is_deep(image) else ImageOps.exif_transpose(image)
            found.hash, found.thumb = perceptual_hash(seen)


def _decode_as_training_does(split: Split, index: int, encoded: Encoded, found: _Found, near: bool) -> None:
    """Decode an image by the rules of training, which can read some that PIL refuses at first."""
    damage: list[str] = []
    try:
        image = split.image(index, damaged=damage.append)
    except UnreadableImageError as error:
        kind = "empty" if error.reason == "is empty" else "unreadable"
        kind = "damaged" if error.reason.startswith("cannot be decoded") else kind
        found.bad = BadImage(split.name, error.path, error.reason, kind)
        return
    found.size, found.damage = image.size, damage[0] if damage else None
    with open_encoded(encoded) if isinstance(encoded, bytes) else image as opened:
        found.kind = (opened.mode, _format(opened))
    if near:
        found.hash, found.thumb = perceptual_hash(image)


def _format(image: Image.Image) -> str:
    animated = image.format != "JPEG" and getattr(image, "is_animated", False)
    return f"{image.format or 'pixels'}{', animated' * bool(animated)}"


def digest(encoded: Encoded) -> bytes:
    """Return 16 bytes: BLAKE2b of an image's bytes, or of its size and pixels."""
    hashed = hashlib.blake2b(encoded if isinstance(encoded, bytes) else encoded.tobytes(), digest_size=16)
    if not isinstance(encoded, bytes):
        hashed.update(str(encoded.shape).encode())
    return hashed.digest()


def perceptual_hash(image: Image.Image) -> tuple[np.uint64, NDArray[np.float32]]:
    """Return the hash of an image's low frequencies, and its thumbnail.

    The hash is pHash (Zauner 2010): whether each of the 8 x 8 lowest frequencies of the cosine transform of 32 x 32
    pixels of brightness is above their median. Compression, resizing and changes of brightness leave it nearly alone.

    Returns:
        uint64, and float32[256] with mean 0 and length 1; 0 for images of one colour.
    """
    grey = image.convert("RGB").convert("L")
    pixels = np.asarray(grey.resize((_HASHED, _HASHED), Image.Resampling.BOX), np.float32)
    waves = _cosines()
    low = (waves @ pixels @ waves.T).ravel()
    low[0] = 0.0  # the mean: brightness
    bits = np.packbits(low > np.median(low[1:])).view(np.uint64)[0]
    side = _HASHED // _THUMB
    thumb = pixels.reshape(_THUMB, side, _THUMB, side).mean((1, 3)).ravel()
    thumb -= thumb.mean()
    length = float(np.linalg.norm(thumb))
    return bits, (thumb / length if length > _THUMB else np.zeros_like(thumb))


@cache
def _cosines() -> NDArray[np.float32]:
    places, waves = np.arange(_HASHED) * 2 + 1, np.arange(_FREQUENCIES)
    cosines: NDArray[np.float32] = np.cos(np.pi / (2 * _HASHED) * waves[:, None] * places).astype(np.float32)
    return cosines
