"""Shards of images without labels: tar files, folders and lists, each of which is predicted as a whole."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Self

import msgspec

from compoundnet.base import CompoundNetError, Notify, first_line, format_bytes, ignore, irregular, limits
from compoundnet.base.images import EncodedImage, image_suffixes
from compoundnet.data.columns import is_image_name
from compoundnet.data.folders import find_images, listed
from compoundnet.data.list_paths import locate
from compoundnet.data.names import LIST_SUFFIXES, is_made_by_tools
from compoundnet.data.tables import read_table

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_BLOCK = 512
# Members that are the attributes or the long name of the next one.
_TEXTS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
# Cells of a column that decide whether it holds the names of images.
_SAMPLE = 100


class ShardError(CompoundNetError):
    """A shard cannot be read to its end."""


class ImageShard(msgspec.Struct, frozen=True):
    """A shard.

    Attributes:
        name: Its path below what was given, by which its results are named.
        path: The tar file, the folder or the list.
        kind: tar, folder or list.
    """

    name: str
    path: Path
    kind: str

    def fingerprint(self) -> str:
        """Return what changes when the shard does: the size of a tar file, the content of a list, a folder's names.

        Raises:
            CompoundNetError: The shard cannot be read.
        """
        try:
            if self.kind == "tar":
                return f"{self.path.stat().st_size} bytes"
            if self.kind == "list":
                return hashlib.sha256(self.path.read_bytes()).hexdigest()
        except OSError as error:
            raise ShardError(f"{self.path}: cannot be read: {error.strerror or error}") from error
        digest = hashlib.sha256()
        for path in find_images([self.path]):
            digest.update(os.fsencode(path) + b"\n")
        return digest.hexdigest()

    def images(self, *, allow_truncated: bool = False, notify: Notify = ignore) -> Iterator[Path | EncodedImage]:
        """Yield its images in order: files, or the members of a tar file with their content.

        Args:
            allow_truncated: Whether a tar file that ends early is read as far as it goes.
            notify: Called with a line on what is left out.

        Raises:
            ShardError: The shard cannot be read to its end.
        """
        if self.kind == "tar":
            yield from _members(self.path, allow_truncated, notify)
        elif self.kind == "folder":
            yield from find_images([self.path], notify=notify)
        else:
            yield from _listed_images(self.path, notify)


def find_shards(paths: Iterable[str | os.PathLike[str]], *, notify: Notify = ignore) -> list[ImageShard]:
    """Find the shards of files and folders, sorted by name for each of them.

    A tar file is a shard (.tar, .tar.gz, .tgz), and so is a list of images (.csv, .tsv, .txt, .jsonl, .parquet). A
    folder that holds images itself is one shard, with all below it; otherwise its tar files, lists and folders are
    shards.

    Args:
        paths: Files and folders.
        notify: Called with a line on what is left out.

    Raises:
        CompoundNetError: There are no shards, or two of the same name.
    """
    found: list[ImageShard] = []
    for given in map(Path, paths):
        before = len(found)
        if given.is_dir():
            found += _below(given, "", notify)
        elif not given.exists():
            raise CompoundNetError(f"there is no file or folder {given}")
        elif (instead := irregular(given)) is not None:
            raise CompoundNetError(f"{given}: is {instead}, not a file")
        elif (kind := _kind(given.name)) is not None:
            found.append(ImageShard(given.name, given, kind))
        else:
            raise CompoundNetError(
                f"{given}: -o FOLDER takes shards: tar files ({', '.join(TAR_SUFFIXES)}), folders of images, or lists"
                f" ({', '.join(LIST_SUFFIXES)})"
            )
        if len(found) == before:
            raise CompoundNetError(f"{given}: there are no tar files, lists or images in this folder or below it")
    twice = [name for name, count in Counter(shard.name for shard in found).items() if count > 1]
    if twice:
        raise CompoundNetError(f"two shards are named {twice[0]}: give the folder above them, or predict them apart")
    return found


def _below(root: Path, name: str, notify: Notify) -> Iterator[ImageShard]:
    entries = [entry for entry in listed(root / name) if not entry.name.startswith(".")]
    files = [entry.name for entry in entries if not entry.is_dir()]
    kinds = {file: kind for file in files if (kind := _kind(file)) is not None}
    if any(Path(file).suffix.lower() in image_suffixes() for file in files):
        tars = [file for file, kind in kinds.items() if kind == "tar"]
        if tars:
            notify(f"{root / name}: holds images, so it is a shard; its {len(tars)} tar files are left out ({tars[0]})")
        yield ImageShard(name or root.resolve().name, root / name, "folder")
        return
    for entry in entries:
        below = f"{name}/{entry.name}" if name else entry.name
        if entry.is_dir():
            if not is_made_by_tools(entry.name, folder=True):
                yield from _below(root, below, notify)
        elif entry.name in kinds and (instead := irregular(root / below)) is not None:
            notify(f"{root / below}: is left out: it is {instead}, not a file")
        elif kinds.get(entry.name) == "tar":
            yield ImageShard(below, root / below, "tar")
        elif entry.name in kinds:
            if _names_images(root / below):
                yield ImageShard(below, root / below, "list")
            else:
                notify(f"{root / below}: is left out, because it has no column of image files")


def _kind(name: str) -> str | None:
    lower = name.lower()
    return "tar" if lower.endswith(TAR_SUFFIXES) else "list" if lower.endswith(LIST_SUFFIXES) else None


def _names_images(path: Path) -> bool:
    try:
        return bool(_image_column(path))
    except CompoundNetError:
        return False


def _image_column(path: Path) -> list[str]:
    """The cells of the column that holds most names of images; empty if none does."""
    columns = read_table(path).columns
    shares = [sum(map(is_image_name, column[:_SAMPLE])) / max(1, len(column[:_SAMPLE])) for column in columns]
    best = max(range(len(columns)), key=shares.__getitem__)
    return columns[best] if shares[best] > 0.5 else []


def _listed_images(path: Path, notify: Notify) -> Iterator[Path]:
    values = _image_column(path)
    if not values:
        raise ShardError(f"{path}: has no column of image files")
    located = locate(values, path.parent)
    for remark in located.remarks:
        notify(f"{path}: {remark}")
    for value, name in zip(values, located.names, strict=True):
        yield located.folder / (value if name is None else name)  # reading a file that is not there reports the error


class _Header(tarfile.TarInfo):
    """A member's header, refused if the text that belongs to it, such as a long name, is larger than any that is meant:
    tarfile reads it whole."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        found = super().frombuf(buf, encoding, errors)
        if found.type in _TEXTS and found.size > limits.METADATA_BYTES:
            raise ValueError(f"a header of {format_bytes(found.size)}")
        return found


def _members(path: Path, allow_truncated: bool, notify: Notify) -> Iterator[EncodedImage]:
    count = 0
    try:
        with tarfile.open(path, "r:*" if path.suffix.lower() == ".tar" else "r|*", tarinfo=_Header) as tar:
            for member in tar:
                file = PurePosixPath(member.name)
                suffix = file.suffix.lower()
                if not member.isfile() or suffix not in image_suffixes() or is_made_by_tools(file.name, folder=False):
                    continue
                name = f"{path}/{member.name}"
                if member.size > limits.IMAGE_BYTES:
                    notify(f"{name}: is left out: it has {format_bytes(member.size)}")
                    continue
                content = tar.extractfile(member)
                assert content is not None
                encoded = content.read()
                if len(encoded) < member.size:
                    raise tarfile.ReadError("unexpected end of data")
                count += 1
                yield EncodedImage(name, encoded)
            _check_end(path, tar.offset)
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise ShardError(f"{path}: cannot be read: {error.strerror or error}") from error
        if not allow_truncated:
            raise ShardError(
                f"{path}: is truncated or damaged after {count:,} images ({first_line(error)}): copy it again, or use"
                " what is there with --allow-truncated"
            ) from error
        notify(f"{path}: is truncated or damaged; its first {count:,} images are used")


def _check_end(path: Path, offset: int) -> None:
    """Raise a ReadError if an uncompressed tar file lacks the block of zeros at its end: it was cut between members."""
    if path.suffix.lower() != ".tar":
        return
    with path.open("rb") as file:
        file.seek(offset)
        if file.read(_BLOCK) != bytes(_BLOCK):
            raise tarfile.ReadError("the end mark is missing")
