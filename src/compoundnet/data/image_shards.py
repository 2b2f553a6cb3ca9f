"""Shards of images without labels: tar files, folders and lists, each of which is predicted as a whole."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Self

import msgspec

from compoundnet.base import CompoundNetError, Notify, first_line, format_bytes, ignore, irregular, limits
from compoundnet.base.images import EncodedImage, image_suffixes, unread_files, unread_suffixes
from compoundnet.base.table_files import parquet_metadata
from compoundnet.data.columns import is_image_name
from compoundnet.data.folders import LeftOutFiles, Visited, find_images, listed
from compoundnet.data.list_paths import locate
from compoundnet.data.names import LIST_SUFFIXES, is_made_by_tools
from compoundnet.data.tables import read_table

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
# The key in the metadata of a file of predictions under which it says from what shard it was made.
PART_KEY = "compoundnet.shard"
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
            ShardError: The shard cannot be read.
        """
        try:
            if self.kind == "tar":
                return f"{self.path.stat().st_size} bytes"
            if self.kind == "list":
                return hashlib.sha256(self.path.read_bytes()).hexdigest()
        except OSError as error:
            raise ShardError(f"{self.path}: cannot be read: {error.strerror or error}") from error
        digest = hashlib.sha256()
        with _shard_errors():
            images = find_images([self.path])
        for path in images:
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
            return
        with _shard_errors():
            folder = self.kind == "folder"
            images = find_images([self.path], notify=notify) if folder else _listed_images(self.path, notify)
        yield from images


@contextmanager
def _shard_errors() -> Iterator[None]:
    """Raise what makes a shard unreadable as a ShardError, which stops no other shard."""
    try:
        yield
    except CompoundNetError as error:
        raise ShardError(str(error)) from error


def find_shards(paths: Iterable[str | os.PathLike[str]], *, notify: Notify = ignore) -> list[ImageShard]:
    """Find the shards of files and folders, sorted by name for each of them.

    A tar file is a shard (.tar, .tar.gz, .tgz), and so is a list of images (.csv, .tsv, .txt, .jsonl, .parquet). A
    folder that holds images itself is one shard, with all below it; otherwise its tar files, lists and folders are
    shards, but not the predictions that were written into it. A list that cannot be read is a shard, whose prediction
    reports the error.

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
            found += _Search(given, notify).shards()
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


class _Search:
    """Finds the shards in a folder and below it.

    Args:
        root: The folder.
        notify: Called with a line on what is left out.
    """

    def __init__(self, root: Path, notify: Notify) -> None:
        self._root, self._notify = root, notify
        self._left, self._visited = LeftOutFiles(), Visited(root)
        self._parts: list[str] = []

    def shards(self) -> list[ImageShard]:
        """Return them, and say what was left out."""
        found = list(self._below(""))
        for out in self._left.all():
            self._notify(f"{self._root}: left out: {out.text()}")
        if self._parts:
            count = f"{len(self._parts):,} file{'s' * (len(self._parts) != 1)}"
            self._notify(f"{self._root}: left out: {count} of predictions ({self._parts[0]})")
        return found

    def _below(self, name: str) -> Iterator[ImageShard]:
        folder = self._root / name
        if not self._visited.enter(os.fspath(folder), name, ""):
            self._left.add("read already", name)
            return
        entries = [entry for entry in listed(folder) if not entry.name.startswith(".")]
        files = [entry.name for entry in entries if not entry.is_dir()]
        if any(Path(file).suffix.lower() in image_suffixes() for file in files):
            tars = [file for file in files if _kind(file) == "tar"]
            if tars:
                self._notify(
                    f"{folder}: holds images, so it is a shard; its {len(tars)} tar files are left out ({tars[0]})"
                )
            yield ImageShard(name or self._root.resolve().name, folder, "folder")
            return
        for entry in entries:
            below = f"{name}/{entry.name}" if name else entry.name
            if not entry.is_dir():
                yield from self._file(below)
            elif not is_made_by_tools(entry.name, folder=True):
                yield from self._below(below)

    def _file(self, name: str) -> Iterator[ImageShard]:
        path, kind = self._root / name, _kind(name)
        if kind is None:
            if (suffix := path.suffix.lower()) in unread_suffixes():
                self._left.add_other(suffix, name)
        elif (instead := irregular(path)) is not None:
            self._notify(f"{path}: is left out: it is {instead}, not a file")
        elif kind == "list" and path.suffix.lower() == ".parquet" and PART_KEY in parquet_metadata(path):
            self._parts.append(name)
        elif kind == "list" and (reason := _not_a_list(path)) is not None:
            self._notify(f"{path}: is left out, because it {reason}")
        else:
            yield ImageShard(name, path, kind)


def _kind(name: str) -> str | None:
    lower = name.lower()
    return "tar" if lower.endswith(TAR_SUFFIXES) else "list" if lower.endswith(LIST_SUFFIXES) else None


def _not_a_list(path: Path) -> str | None:
    """Return why a file is no list of images, as words that follow `it`; None if it is one, or cannot be read."""
    try:
        return None if _image_column(path) else "has no column of image files"
    except CompoundNetError:  # whoever reads it as a shard reports the error; a .txt file may be any text
        return "cannot be read as a list" if path.suffix.lower() == ".txt" else None


def _image_column(path: Path) -> list[str]:
    """The cells of the column that holds most names of images; empty if none does."""
    columns = read_table(path).columns
    shares = [sum(map(is_image_name, column[:_SAMPLE])) / max(1, len(column[:_SAMPLE])) for column in columns]
    best = max(range(len(columns)), key=shares.__getitem__)
    return columns[best] if shares[best] > 0.5 else []


def _listed_images(path: Path, notify: Notify) -> Iterable[Path]:
    values = _image_column(path)
    if not values:
        raise ShardError(f"{path}: has no column of image files")
    located = locate(values, path.parent)
    for remark in located.remarks:
        notify(f"{path}: {remark}")
    return (  # reading a file that is not there reports the error
        located.folder / (value if name is None else name) for value, name in zip(values, located.names, strict=True)
    )


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
    count, unread = 0, Counter[str]()
    try:
        with tarfile.open(path, "r:*" if path.suffix.lower() == ".tar" else "r|*", tarinfo=_Header) as tar:
            for member in tar:
                # tarfile keeps each header that it has read, for lookups by name.
                tar.members.clear()  # type: ignore[attr-defined]  # has no documentation
                file = PurePosixPath(member.name)
                suffix = file.suffix.lower()
                if not member.isfile() or is_made_by_tools(file.name, folder=False):
                    continue
                if suffix not in image_suffixes():
                    if suffix in unread_suffixes():
                        unread[f"*{suffix}"] += 1
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
    if (text := unread_files(unread.elements())) is not None:
        notify(f"{path}: {text}")


def _check_end(path: Path, offset: int) -> None:
    """Raise a ReadError if an uncompressed tar file lacks the block of zeros at its end: it was cut between members."""
    if path.suffix.lower() != ".tar":
        return
    with path.open("rb") as file:
        file.seek(offset)
        if file.read(_BLOCK) != bytes(_BLOCK):
            raise tarfile.ReadError("the end mark is missing")
