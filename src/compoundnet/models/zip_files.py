"""Entries of zip files, read only if they are of a bounded size: a few kilobytes can unpack to gigabytes."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from compoundnet.base import CompoundNetError, format_bytes, limits

# What reading a damaged zip file raises: besides BadZipFile, which alone is documented, a RuntimeError for an encrypted
# entry or a version that zipfile does not know, and errors of what it reads with.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, UnicodeDecodeError)


def entry_named(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo | None:
    """Return the entry of that name, below at most one folder as torch's archives have it; None if there is none."""
    return next((entry for entry in archive.infolist() if entry.filename.partition("/")[2] == name), None) or next(
        (entry for entry in archive.infolist() if entry.filename == name), None
    )


def check_unpacked(entries: Iterable[zipfile.ZipInfo], size: int, file: Path) -> None:
    """Raise a CompoundNetError if entries of an archive of torch unpack to more than its size.

    Torch compresses nothing. A small archive may be compressed all the same, by a program that packed it again.

    Args:
        entries: The entries that will be read, one as often as it will be.
        size: The size of the archive in bytes.
        file: The file, for messages.
    """
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > max(limits.METADATA_BYTES, size):
        raise CompoundNetError(
            f"{file} unpacks to {format_bytes(unpacked)}, more than its own size; it was not read. Save it again with"
            " torch"
        )


def read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int, file: Path) -> bytes:
    """Read an entry, which may be compressed.

    Args:
        archive: The zip file.
        entry: The entry.
        limit: The largest size to which it may unpack, in bytes. More than what its heading states is never unpacked.
        file: The zip file's name in error messages.

    Raises:
        CompoundNetError: The entry is larger.
        One of ZIP_ERRORS: It is damaged.
    """
    if entry.file_size > limit:
        raise CompoundNetError(
            f"{file}: its entry {entry.filename} unpacks to {format_bytes(entry.file_size)}, and"
            f" {format_bytes(limit)} is the limit"
        )
    with archive.open(entry) as member:
        return member.read(entry.file_size)
