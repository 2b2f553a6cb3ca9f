"""Sources of images: files, tar shards, or memory. Each source names and reads its images."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from compoundnet.base import CompoundNetError, limits, problem_with
from compoundnet.base.images import Encoded, UnreadableImageError


class Strings(msgspec.Struct, frozen=True, eq=False):
    """A sequence of strings as one block of UTF-8.

    A Python list of ImageNet's 1,281,167 file names takes 130 MB of small objects, which every worker process would
    copy on access; this takes 40 MB that stay shared, and pickles as fast as memory is copied.

    Attributes:
        text: uint8[bytes], all strings in sequence.
        ends: int64[N], where each string ends.
    """

    text: NDArray[np.uint8]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, values: Iterable[str]) -> Strings:
        """Pack strings. Surrogates, which stand for undecodable bytes in file names, are kept."""
        text, ends = bytearray(), array("q")
        for value in values:
            text += value.encode("utf-8", "surrogateescape")
            ends.append(len(text))
        return cls(np.frombuffer(bytes(text), np.uint8), np.frombuffer(ends, np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        start = self.ends[index - 1] if index else 0
        return self.text[start : self.ends[index]].tobytes().decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))


class ImageSource(Protocol):
    """A numbered set of images, small when pickled. Names are relative, so that they are the same on every machine."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Return the name of an image, with `/` between folders."""
        ...

    def read(self, index: int) -> Encoded:
        """Return an image before it is decoded. Raises OSError or UnreadableImageError."""
        ...


class Files(msgspec.Struct, frozen=True, eq=False):
    """Image files: the folder `root` and their names below it, or absolute names."""

    root: str
    names: Strings

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return self.names[index]

    def read(self, index: int) -> Encoded:
        path = Path(self.root, self.names[index])
        problem = problem_with(path, limits.IMAGE_BYTES)
        if problem is not None:
            raise UnreadableImageError(self.names[index], problem)
        return path.read_bytes()


class Arrays(msgspec.Struct, frozen=True, eq=False):
    """Pixels in memory, uint8[N, H, W] or uint8[N, H, W, 3]. An image's name is `label` and its number."""

    label: str
    pixels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.pixels)

    def name(self, index: int) -> str:
        return f"{self.label}/{index:05d}"

    def read(self, index: int) -> Encoded:
        pixels: NDArray[np.uint8] = self.pixels[index]
        return pixels


class TarMembers(msgspec.Struct, frozen=True, eq=False):
    """Images inside tar files.

    Attributes:
        root: The folder of the tar files.
        shards: Their names.
        names: Of the images.
        shard: int64[N], the number of each image's tar file.
        start: int64[N], where its bytes start there.
        size: int64[N], its bytes.
    """

    root: str
    shards: tuple[str, ...]
    names: Strings
    shard: NDArray[np.int64]
    start: NDArray[np.int64]
    size: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return self.names[index]

    def read(self, index: int) -> Encoded:
        path = Path(self.root, self.shards[self.shard[index]])
        start, size = int(self.start[index]), int(self.size[index])
        content = _mapped(str(path))[start : start + size].tobytes()
        if len(content) != size:
            raise CompoundNetError(f"{path}: ends before {self.name(index)}; copy this shard again")
        return content


class Joined(msgspec.Struct, frozen=True, eq=False):
    """The images of one source, and then those of another."""

    first: ImageSource
    second: ImageSource

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def name(self, index: int) -> str:
        source, place = self._place(index)
        return source.name(place)

    def read(self, index: int) -> Encoded:
        source, place = self._place(index)
        return source.read(place)

    def _place(self, index: int) -> tuple[ImageSource, int]:
        count = len(self.first)
        return (self.first, index) if index < count else (self.second, index - count)


# Each process opens a shard once: on a network file system opening takes longer than reading an image.
@lru_cache(maxsize=256)
def _mapped(path: str) -> NDArray[np.uint8]:
    mapped: NDArray[Any] = np.memmap(path, dtype=np.uint8, mode="r")
    return mapped
