"""Files and folders that are written completely or not at all.

All content is first written to a hidden scratch folder next to its target, `.NAME.XXXXXXXX.part`, and renamed when it
is complete. An interruption leaves the previous content.
"""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compoundnet.base.errors import CompoundNetError

_SUFFIX = ".part"
# The number of characters that tempfile.mkdtemp adds.
_RANDOM = 8


class UnwritableError(CompoundNetError):
    """A file or folder cannot be written: no permission, no such folder, a full disk."""


@contextmanager
def write_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Raise UnwritableError, naming `path`, for each OSError inside the block."""
    try:
        yield
    except OSError as error:
        raise UnwritableError(f"{path}: cannot be written: {error.strerror or error}") from error


def check_folder_of(path: str | os.PathLike[str]) -> None:
    """Raise CompoundNetError if the folder of a future file does not exist; call this before the work starts."""
    target = Path(path)
    if not target.parent.is_dir():
        raise CompoundNetError(f"{target}: there is no folder {target.parent}")


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Create a folder and its parents if they do not exist. Raises UnwritableError."""
    with write_errors(path):
        Path(path).mkdir(parents=True, exist_ok=True)
    return Path(path)


@contextmanager
def scratch_folder(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty private folder beside `target`, on the same file system, and remove it afterwards.

    Raises:
        UnwritableError: the folder of `target` cannot be written, or the block raises an OSError.
    """
    path = Path(target)
    with write_errors(path):
        scratch = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=_SUFFIX))
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path for writing a file; when the block ends, the file replaces `path`.

    The content is flushed to disk before the file is renamed, so that a power failure leaves no empty file.

    Raises:
        UnwritableError: As for `scratch_folder`. The old file stays.
    """
    target = Path(path)
    with scratch_folder(target) as scratch:
        written = scratch / target.name
        yield written
        with written.open("rb+") as file:
            os.fsync(file.fileno())
        written.replace(target)


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `content` to a file, completely or not at all. Raises UnwritableError."""
    with whole_file(path) as written:
        written.write_bytes(content)


@contextmanager
def whole_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty folder to fill; when the block ends, it replaces the folder `path`.

    Parent folders of `path` are created.

    Raises:
        UnwritableError: As for `scratch_folder`. The old folder stays.
    """
    target = Path(path)
    make_folder(target.parent)
    with scratch_folder(target) as scratch:
        whole = scratch / target.name
        whole.mkdir()  # inside the scratch folder, which is private to its user
        yield whole
        replaced = scratch / f"{target.name}.old"  # not the name of `whole`, whatever the target is called
        if target.is_symlink() or target.exists():
            target.rename(replaced)
        try:
            whole.rename(target)
        except OSError:
            if replaced.is_symlink() or replaced.exists():
                replaced.rename(target)
            raise


def remove_scratch(target: str | os.PathLike[str]) -> None:
    """Remove the scratch folders that killed processes left next to `target`.

    Call it only while no other process can be writing `target`, for instance under its lock.
    """
    path = Path(target)
    _remove(path.parent, glob.escape(path.name))


def remove_all_scratch(folder: str | os.PathLike[str]) -> None:
    """Remove the scratch folders that killed processes left for any target in a folder, under the same condition."""
    _remove(Path(folder), "*")


def _remove(folder: Path, names: str) -> None:
    # Match exactly the number of random characters of mkdtemp: `*` would also match other targets, such as NAME.v2.
    for leftover in folder.glob(f".{names}.{'?' * _RANDOM}{_SUFFIX}"):
        shutil.rmtree(leftover, ignore_errors=True)
