"""Feature vectors of images, kept by the content of the image: an image is never run through a network twice.

Each network, with its preprocessing, has a folder in `features` of the cache folder. Its files hold the vectors of some
images each; they are only added, never changed, so any number of processes may use a folder at a time. A file's name
is the digest of its content, so a damaged one is noticed and deleted. When a file is added and the total exceeds 2 GiB,
the files unused for the longest time are deleted.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compoundnet.base import UnwritableError, make_folder, write_whole
from compoundnet.base.images import Encoded
from compoundnet.base.machine import cache_folder

_LOG = logging.getLogger(__name__)
_MOST_BYTES = 2 << 30
_DIGEST = 16  # bytes


class FeatureCache:
    """The vectors of one network that are on disk, and new ones that `save` adds.

    Args:
        name: The name of the network, for people who look into the cache folder.
        identity: Everything that a vector depends on, besides the image.
        width: Length of a vector.
    """

    def __init__(self, name: str, identity: Mapping[str, str], width: int) -> None:
        digest = hashlib.sha256(json.dumps(dict(identity), sort_keys=True).encode()).hexdigest()[:24]
        readable = re.sub(r"[^A-Za-z0-9._+-]", "_", name)[:80]
        self._folder = cache_folder() / "features" / f"{readable}-{digest}"
        self._kind = np.dtype([("image", f"V{_DIGEST}"), ("features", np.float32, (width,))])
        self._found: dict[bytes, NDArray[np.float32]] = {}
        self._new: dict[bytes, NDArray[np.float32]] = {}
        for path in self._folder.glob("*.npy"):
            self._read(path)

    def get(self, image: bytes) -> NDArray[np.float32] | None:
        """Return the vector of the image with this digest, or None."""
        return self._found.get(image)

    def add(self, image: bytes, vector: NDArray[np.float32]) -> None:
        """Add the vector of the image with this digest."""
        self._found[image] = self._new[image] = vector

    def save(self) -> None:
        """Write the new vectors. A cache that cannot be written costs time, and a line in the log says so."""
        if not self._new:
            return
        rows = np.empty(len(self._new), self._kind)
        rows["image"] = np.frombuffer(b"".join(self._new), f"V{_DIGEST}")
        rows["features"] = list(self._new.values())
        written = io.BytesIO()
        np.save(written, rows)
        content = written.getvalue()
        try:
            write_whole(make_folder(self._folder) / f"{_digest(content)}.npy", content)
        except UnwritableError as error:
            _LOG.warning("%s, so these features are computed again next time", error)
            return
        self._new.clear()
        _remove_old(self._folder.parent)

    def _read(self, path: Path) -> None:
        try:
            content = path.read_bytes()
        except OSError:  # another process has just deleted it
            return
        if _digest(content) != path.stem:
            _LOG.warning("%s is damaged; its features are computed again", path)
            with suppress(OSError):
                path.unlink()
            return
        rows = np.load(io.BytesIO(content), allow_pickle=False)
        self._found.update(zip(map(bytes, rows["image"]), rows["features"], strict=True))
        with suppress(OSError):  # a read-only cache
            os.utime(path)


def image_digest(encoded: Encoded) -> bytes:
    """Return the digest of an image before it is decoded: the bytes of a file, or pixels."""
    if isinstance(encoded, bytes):
        return hashlib.blake2b(encoded, digest_size=_DIGEST, person=b"file").digest()
    pixels = np.ascontiguousarray(encoded)
    shape = f"{pixels.dtype.str}{pixels.shape}".encode()
    return hashlib.blake2b(shape + pixels.tobytes(), digest_size=_DIGEST, person=b"pixels").digest()


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=_DIGEST).hexdigest()


def _remove_old(features: Path) -> None:
    """Delete the least recently used files until the rest fit."""
    with suppress(OSError):  # another process deletes them at the same time
        files = sorted(((path.stat().st_mtime, path) for path in features.glob("*/*.npy")), reverse=True)
        total = 0
        for _, path in files:
            total += path.stat().st_size
            if total > _MOST_BYTES:
                path.unlink()
