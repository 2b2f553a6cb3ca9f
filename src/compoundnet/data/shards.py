"""A data set as a few large tar files: the WebDataset layout, with an index of where each image starts.

A million small files overload the file system of a cluster; a tar shard is read as one file. Any WebDataset reader can
stream these shards. The index lets images be read in any order, so that shuffling is exact over the whole data set and
training can resume at any image.
"""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compoundnet.base import (
    CompoundNetError,
    Progress,
    check_file,
    decode_toml,
    ignore,
    limits,
    read_file,
    whole_folder,
)
from compoundnet.base.images import UnreadableImageError, image_errors
from compoundnet.data.dataset import UNKNOWN, Dataset, Labels, Metric, Split
from compoundnet.data.holdout import draws
from compoundnet.data.sources import Strings, TarMembers
from compoundnet.models.zip_files import ZIP_ERRORS

_INDEX = "shards.toml"
_BLOCK = 512  # of a tar file, bytes
_Numbers: TypeAlias = NDArray[np.int64]


class _Index(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file shards.toml. The table of each split's images is in SPLIT.npz beside it."""

    format: int
    name: str
    metric: Metric
    classes: tuple[str, ...]
    shards: dict[str, tuple[str, ...]]


def is_shards(folder: Path) -> bool:
    """Whether `write_shards` wrote this folder."""
    return (folder / _INDEX).is_file()


def write_shards(
    dataset: Dataset,
    folder: str | os.PathLike[str],
    *,
    shard_bytes: int = 1 << 28,
    progress: Progress = ignore,
) -> Path:
    """Write the images of a data set, in their original encoding, to FOLDER/SPLIT-NNNNNN.tar.

    Beside each image is its class number (.cls), or the list of the numbers of its labels (.json). Images are shuffled,
    because readers that stream the shards need it. The order depends only on their names, so that two runs write the
    same bytes. The folder is written completely or not at all.

    Args:
        dataset: The data set to write.
        folder: A new or empty folder.
        shard_bytes: Approximate size of a tar file.
        progress: Called with 1 for each image.

    Returns:
        The folder's absolute path.

    Raises:
        CompoundNetError: the folder is not empty, an image cannot be read, or the disk is full.
    """
    target = Path(folder).absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise CompoundNetError(f"{target}: is not an empty folder; give a new one")
    with whole_folder(target) as whole:
        shards = {name: _write_split(split, whole, shard_bytes, progress) for name, split in dataset.splits.items()}
        index = _Index(1, dataset.name, dataset.metric, dataset.classes, shards)
        (whole / _INDEX).write_bytes(msgspec.toml.encode(index))
    return target


def open_shards(folder: Path) -> Dataset:
    """Open a folder written by `write_shards`. Raises CompoundNetError if a shard is missing or truncated."""
    try:
        index = decode_toml(read_file(folder / _INDEX, limits.SHARD_INDEX_BYTES), _Index, str(folder / _INDEX))
        splits = {name: _open_split(folder, name, index) for name in index.shards}
    except (*ZIP_ERRORS, KeyError, ValueError) as error:
        if isinstance(error, CompoundNetError):
            raise
        raise CompoundNetError(f"{folder}: these shards cannot be read: {error}; write them again") from error
    return Dataset(index.name, splits, index.metric)


def _write_split(split: Split, folder: Path, shard_bytes: int, progress: Progress) -> tuple[str, ...]:
    order = np.argsort(draws(split, 0), kind="stable")
    shards: list[str] = []
    places: list[tuple[int, int, int]] = []
    left = iter(enumerate(order.tolist()))
    following = next(left, None)
    while following is not None:
        shards.append(f"{split.name}-{len(shards):06d}.tar")
        with tarfile.open(folder / shards[-1], "w", format=tarfile.USTAR_FORMAT) as tar:
            while following is not None and tar.offset < shard_bytes:
                number, index = following
                content, suffix = _encoded(split, index)
                places.append((len(shards) - 1, tar.offset + _BLOCK, len(content)))
                _add(tar, f"{number:08d}{suffix}", content)
                if split.multilabel:
                    _add(tar, f"{number:08d}.json", msgspec.json.encode(np.flatnonzero(split.labels[index]).tolist()))
                else:
                    _add(tar, f"{number:08d}.cls", str(split.labels[index]).encode())
                progress(1)
                following = next(left, None)
    names = Strings.of(split.image_name(index) for index in order.tolist())
    shard, start, size = np.array(places, np.int64).reshape(-1, 3).T
    np.savez(
        folder / f"{split.name}.npz",
        text=names.text,
        ends=names.ends,
        labels=split.labels[order],
        shard=shard,
        start=start,
        size=size,
    )
    return tuple(shards)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _encoded(split: Split, index: int) -> tuple[bytes, str]:
    """Return the unchanged bytes of an image file, or pixels as lossless PNG; and the suffix of the file name."""
    name = split.image_name(index)
    try:
        with image_errors(lambda: name):
            image = split.read(index)
    except UnreadableImageError as error:
        raise CompoundNetError(f"{error}; nothing was written") from error
    if isinstance(image, bytes):
        return image, PurePosixPath(name).suffix.lower() or ".jpg"
    written = io.BytesIO()
    Image.fromarray(image).save(written, "png")
    return written.getvalue(), ".png"


def _open_split(folder: Path, name: str, index: _Index) -> Split:
    path = folder / f"{name}.npz"
    _check_stored(path)
    with np.load(path, allow_pickle=False) as table:
        names = Strings(table["text"], table["ends"])
        labels, shard, start, size = (table[column] for column in ("labels", "shard", "start", "size"))
    _check_table(path, index, names, labels, shard, start, size)
    ends = start + size
    for number, file in enumerate(index.shards[name]):
        if Path(file).name != file:
            raise CompoundNetError(f"{folder / _INDEX}: names the shard {file}, which is not a file beside it")
        needed = int(ends[shard == number].max(initial=0))
        path = folder / file
        length = path.stat().st_size if path.is_file() else -1
        if length < needed:
            found = f"has {length:,} bytes, and {needed:,} are indexed" if length >= 0 else "is missing"
            raise CompoundNetError(f"{path}: {found}; copy this shard again")
    return Split(name, index.classes, labels, TarMembers(str(folder), index.shards[name], names, shard, start, size))


def _check_stored(path: Path) -> None:
    """Raise a CompoundNetError unless an .npz file is as large as its arrays: compressed, a few kB can be gigabytes."""
    check_file(path, limits.LIST_BYTES)
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
            raise CompoundNetError(f"{path}: holds compressed arrays, which compoundnet does not write")


def _check_table(
    path: Path, index: _Index, names: Strings, labels: Labels, shard: _Numbers, start: _Numbers, size: _Numbers
) -> None:
    """Raise a CompoundNetError if the table does not describe images inside the shards."""
    count, shards = len(names.ends), len(index.shards[path.stem])
    columns = (names.ends, shard, start, size)
    sound = (
        all(column.shape == (count,) and column.dtype.kind in "iu" for column in columns)
        and names.text.ndim == 1
        and names.text.dtype == np.uint8
        and labels.shape == ((count, len(index.classes)) if labels.ndim == 2 else (count,))
        and labels.dtype.kind in "biu"
    )
    if sound and count:
        sound = (
            bool((np.diff(names.ends, prepend=0) >= 0).all())
            and names.ends[-1] <= len(names.text)
            and 0 <= shard.min() <= shard.max() < shards
            and start.min() >= 0
            and size.min() >= 0
            and (labels.ndim == 2 or UNKNOWN <= labels.min() <= labels.max() < len(index.classes))
        )
    if not sound:
        raise CompoundNetError(f"{path}: does not describe images inside the shards; write them again")
