"""Work that is done once per machine and kept on disk: compiled networks, and which backend was fastest.

An entry is a folder, under the cache folder's `sessions`, that appears whole or not at all. Its `entry.json` says what
it was made from and the checksum of each file, so a damaged entry, or one that someone else put there, is made anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from compoundnet.arch import CompoundNetError
from compoundnet.models.fetch import cache_folder
from compoundnet.models.reading import sha256_of

_LOG = logging.getLogger(__name__)
_ENTRY = "entry.json"
Identity = Mapping[str, str]


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    identity: dict[str, str]
    files: dict[str, str]


@contextmanager
def stored(kind: str, name: str, identity: Identity | None, make: Callable[[Path], None]) -> Iterator[Path]:
    """A folder with what `make` writes into an empty one, made where the cache does not have it.

    identity  everything the content depends on; None where that is not known, and then nothing is kept
    """
    if identity is None:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            make(Path(folder))
            yield Path(folder)
        return
    found = _found_or_made(location(kind, name, identity), identity, make)
    if found is not None:
        yield found
        return
    with stored(kind, name, None, make) as unkept:
        yield unkept


def location(kind: str, name: str, identity: Identity) -> Path:
    """Where the entry is or would be; another identity gives another place."""
    digest = hashlib.sha256(json.dumps(dict(identity), sort_keys=True).encode()).hexdigest()[:24]
    readable = re.sub(r"[^A-Za-z0-9._+-]", "_", name)[:80]
    return cache_folder() / "sessions" / f"{readable}-{kind}-{digest}"


def _found_or_made(folder: Path, identity: Identity, make: Callable[[Path], None]) -> Path | None:
    """The entry's folder; None where the cache cannot be written. Processes that want the same one wait."""
    if _problem(folder, identity) is None:
        return folder
    from filelock import FileLock

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.parent / f".{folder.name}.lock")
        lock.acquire()
    except OSError as error:
        _LOG.warning(
            "the cache %s cannot be written (%s), so the next start takes as long; COMPOUNDNET_CACHE names another",
            folder.parent,
            error.strerror or error,
        )
        return None
    try:
        problem = _problem(folder, identity)
        if problem is not None:
            if folder.exists():
                _LOG.warning("the cache entry %s %s; making it anew", folder, problem)
            _make(folder, identity, make)
    except OSError as error:
        raise CompoundNetError(f"{folder}: cannot be written: {error.strerror or error}") from error
    finally:
        lock.release()
    return folder


def _make(folder: Path, identity: Identity, make: Callable[[Path], None]) -> None:
    for leftover in folder.parent.glob(f".{folder.name}.*.part"):  # of a process that was killed while it wrote
        shutil.rmtree(leftover, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".part"))
    try:
        make(scratch)
        files = {str(path.relative_to(scratch)): sha256_of(path) for path in sorted(scratch.rglob("*"))}
        (scratch / _ENTRY).write_bytes(msgspec.json.encode(_Entry(dict(identity), files)))
        if folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder)
        else:
            folder.unlink(missing_ok=True)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _problem(folder: Path, identity: Identity) -> str | None:
    """What is wrong with an entry, in words that follow its name; None where it is sound."""
    try:
        entry = msgspec.json.decode((folder / _ENTRY).read_bytes(), type=_Entry)
    except (OSError, msgspec.DecodeError):
        return "is not one"
    if entry.identity != dict(identity):
        return "was made from something else"
    for name, expected in entry.files.items():
        try:
            if sha256_of(folder / name) != expected:
                return f"is damaged ({name})"
        except CompoundNetError:
            return f"is incomplete ({name})"
    return None
