"""Files and folders that are written completely or not at all. The policy for every output of every command:

- What a command writes appears under its name when it is complete. Until then it is in a hidden scratch folder next to
  it, `.NAME.XXXXXXXX.part`; an interruption leaves the previous content.
- Folders above an output are created.
- A link is followed: what it points to is replaced, and the link stays. A device or a pipe is written to.
- A folder, or several files, are replaced in several steps. Whatever comes between them, what was there before is put
  back.
- A scratch folder is locked while its process lives. Those of killed processes are removed by the next process of the
  same user that writes into the same folder, which puts back what they hold of a replacement that was not finished.
"""

from __future__ import annotations

import errno
import glob
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from compoundnet.base.errors import CompoundNetError
from compoundnet.base.inputs import irregular

try:
    import fcntl
except ImportError:  # Windows: scratch is removed by the functions below only
    fcntl = None  # type: ignore[assignment]

_log = logging.getLogger(__name__)

_SUFFIX = ".part"
# The number of characters that tempfile.mkdtemp adds.
_RANDOM = 8
# A folder inside a scratch folder for what has been replaced.
_REPLACED = ".replaced"


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
            _discard(scratch)
            if lock is not None:
                os.close(lock)


def replace_together(scratch: Path, moves: Mapping[Path, Path]) -> None:
    """Give finished files and folders their final names, in this order.

    What already has these names is moved into the scratch folder first. If an error or an interruption comes before
    the last has its name, it is put back when the block of `scratch_folder` ends; after a kill, by the next process
    that writes into the same folder.

    Args:
        scratch: The folder that `scratch_folder` yields.
        moves: For each finished file or folder in it the new name, in the folder that holds `scratch`.

    Raises:
        OSError: One of them cannot be moved.
    """
    new, target = next(iter(moves.items()))
    if len(moves) == 1 and new.is_file() and target.is_file():
        new.replace(target)  # one step
        return
    held = _held(scratch)
    held.mkdir()
    # The last first: after a kill, a file that needs another is there only with that other.
    for target in reversed(list(moves.values())):
        if os.path.lexists(target):
            target.rename(held / target.name)
    for new, target in moves.items():
        new.rename(target)
    held.rename(scratch / _REPLACED)  # nothing is put back from now on


def _held(scratch: Path) -> Path:
    """The folder inside a scratch folder for what is being replaced. No target has so long a name."""
    return scratch / scratch.name


def _discard(scratch: Path) -> None:
    """Remove a scratch folder; before that, put back what it holds of a replacement that was not finished."""
    for old in sorted(_held(scratch).glob("*")):
        target = scratch.parent / old.name
        try:
            if os.path.lexists(target):
                target.rename(Path(tempfile.mkdtemp(dir=scratch), old.name))
            old.rename(target)
        except OSError as error:
            _log.warning("%s could not be put back: %s; it is in %s", target, error.strerror or error, old)
            return
    shutil.rmtree(scratch, ignore_errors=True)


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
            _discard(leftover)
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
        replace_together(scratch, {whole: target})


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
        _discard(leftover)


def _scratch_in(folder: Path, names: str) -> list[Path]:
    # Match exactly the number of random characters of mkdtemp: `*` would also match other targets, such as NAME.v2.
    return [path for path in folder.glob(f".{names}.{'?' * _RANDOM}{_SUFFIX}") if _is_own(path)]


def _is_own(scratch: Path) -> bool:
    """Whether this user made it: what another one has put into a shared folder must not replace anything here."""
    if not hasattr(os, "geteuid"):  # Windows
        return True
    try:
        return scratch.lstat().st_uid == os.geteuid()
    except FileNotFoundError:  # another process has removed it
        return False
