"""Files that are read: regular ones only, and of a bounded size.

A pipe or a device such as /dev/zero has no end and would be waited for or read forever, and a small or sparse file may
claim any size.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from compoundnet.base.errors import CompoundNetError
from compoundnet.base.units import format_bytes

_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def instead_of_file(start: bytes) -> str | None:
    """Return what a file is instead of the wanted one, and what to do, by its first bytes: a pointer of Git LFS or a
    web page. None if it is neither. The text is the second half of a sentence."""
    if start.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the file itself: run `git lfs pull` in its repository"
    if re.match(rb"\s*<(!doctype )?html", start, re.IGNORECASE):
        return "is a web page, not the file itself: download it again"
    return None


def irregular(path: str | os.PathLike[str]) -> str | None:
    """Return what a path is if it is neither a regular file nor a folder, such as `a pipe`; None otherwise.

    Links are followed. A path that does not exist gives None: whoever opens it reports that.
    """
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return None
    return next((kind for test, kind in _KINDS if test(mode)), None)


def problem_with(path: str | os.PathLike[str], limit: int) -> str | None:
    """Return why a file must not be opened, as the second half of a sentence: it is no regular file, or larger than
    `limit` bytes. None otherwise, also if it does not exist: whoever opens it reports that."""
    kind = irregular(path)
    if kind is not None:
        return f"is {kind}, not a file"
    try:
        size = Path(path).stat().st_size
    except OSError:
        return None
    return f"has {format_bytes(size)}, and {format_bytes(limit)} is the limit" if size > limit else None


def check_file(path: str | os.PathLike[str], limit: int) -> None:
    """Raise a CompoundNetError if `problem_with` finds one, or there is no such file; call this before opening it."""
    problem = problem_with(path, limit)
    if problem is not None:
        raise CompoundNetError(f"{path}: {problem}")
    try:
        Path(path).stat()
    except OSError as error:
        raise CompoundNetError(f"{path}: cannot be read: {error.strerror or error}") from error


def read_file(path: str | os.PathLike[str], limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes. Raises a CompoundNetError that names the file otherwise."""
    check_file(path, limit)
    try:
        with Path(path).open("rb") as file:
            content = file.read(limit + 1)  # files in /proc hold more than their size says
    except OSError as error:
        raise CompoundNetError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(content) > limit:
        raise CompoundNetError(f"{path}: is larger than {format_bytes(limit)}, the limit")
    return content
