"""Files and folders that are written completely or not at all. The policy for every output of every command:

- What a command writes appears under its name when it is complete. Until then it is in a hidden scratch folder next to
  it, `.NAME.XXXXXXXX.part`; an interruption leaves the previous content.
- Folders above an output are created.
- A link is followed: what it points to is replaced, and the link stays. A device or a pipe is written to.
- A scratch folder is locked while its process lives. Those of killed processes are removed by the next process that
  writes into the same folder.
"""

from __future__ import annotations

import errno
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from compoundnet.base.errors import CompoundNetError
from compoundnet.base.inputs import irregular

try:
    import fcntl
except ImportError:  # Windows: scratch is removed by the functions below only
    fcntl = None  # type: ignore[assignment]

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


def check_output_file(path: str | os.PathLike[str]) -> None:
    """Raise UnwritableError if a future file cannot be written to `path`; call this before the work starts."""
    target = followed(path)
    if target.is_dir():
        raise UnwritableError(f"{path}: is a folder; give the name of a file")
    above = target.parent
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir():
        raise UnwritableError(f"{path}: cannot be written: {above} is not a folder")
    if not os.access(target if irregular(target) else above, os.W_OK):
        raise UnwritableError(f"{path}: cannot be written: Permission denied")


def followed(path: str | os.PathLike[str]) -> Path:
    """Return what a link points to, whether it exists or not; other paths unchanged."""
    return Path(os.path.realpath(path)) if Path(path).is_symlink() else Path(path)


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Create a folder and its parents if they do not exist. Raises UnwritableError."""
    with write_errors(path):
        Path(path).mkdir(parents=True, exist_ok=True)
    return Path(path)


@contextmanager
def scratch_folder(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty private folder beside `target`, on the same file system, and remove it afterwards.

    The folder of `target` is created if it does not exist.

    Raises:
        UnwritableError: the folder of `target` cannot be written, or the block raises an OSError.
    """
    path = Path(target)
    with write_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from error
        _sweep(path.parent.absolute())
        scratch, lock = _locked_folder(path)
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            if lock is not None:
                os.close(lock)


def _locked_folder(target: Path) -> tuple[Path, int | None]:
    """A new scratch folder, and the descriptor that holds its lock; None where there are no locks."""
    while True:
        scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=_SUFFIX))
        lock = _lock(scratch)
        if scratch.exists():  # otherwise another process has taken it for a dead one's, just before it was locked
            return scratch, lock
        if lock is not None:
            os.close(lock)


def _lock(scratch: Path) -> int | None:
    """Lock a scratch folder without waiting; None if another process holds it, or the file system has no locks."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(scratch, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


@cache  # a folder may hold a million files
def _sweep(folder: Path) -> None:
    """Remove the scratch folders of processes that have ended, once for each folder."""
    for leftover in _scratch_in(folder, "*"):
        lock = _lock(leftover)
        if lock is not None:
            shutil.rmtree(leftover, ignore_errors=True)
            os.close(lock)


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path for writing a file; when the block ends, the file replaces `path`.

    The content is flushed to disk before the file is renamed, so that a power failure leaves no empty file.

    Raises:
        UnwritableError: As for `scratch_folder`. The old file stays.
    """
    target = followed(path)
    if irregular(target):  # /dev/null, /dev/stdout: replacing it would be a disaster
        with write_errors(path), tempfile.TemporaryDirectory() as folder:
            written = Path(folder, target.name)
            yield written
            with written.open("rb") as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)
        return
    with scratch_folder(target) as scratch:
        written = scratch / target.name
        yield written
        with written.open("rb+") as file:
            os.fsync(file.fileno())
        if target.exists():
            with suppress(OSError):  # a file system without permissions
                written.chmod(target.stat().st_mode & 0o777)
        written.replace(target)


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `content` to a file, completely or not at all. Raises UnwritableError."""
    with whole_file(path) as written:
        written.write_bytes(content)


@contextmanager
def whole_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty folder to fill; when the block ends, it replaces the folder `path`.

    Raises:
        UnwritableError: As for `scratch_folder`. The old folder stays.
    """
    target = followed(path)
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
    for leftover in _scratch_in(folder, names):
        shutil.rmtree(leftover, ignore_errors=True)


def _scratch_in(folder: Path, names: str) -> list[Path]:
    # Match exactly the number of random characters of mkdtemp: `*` would also match other targets, such as NAME.v2.
    return list(folder.glob(f".{names}.{'?' * _RANDOM}{_SUFFIX}"))
