"""The cache of work that is done once per machine: compiled networks, and the choice of the fastest backend.

An entry is a folder in `sessions` of the cache folder, which appears whole or not at all. Its `entry.json` records what
it was made from and the checksum of each file, so a damaged or foreign entry is made again. The date of an entry is
that of its last use: when one is added and the total exceeds 4 GiB, the entries unused for the longest time are
deleted. An entry that another user made or can change is not used: a compiled network is code.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from compoundnet.base import CompoundNetError, UnwritableError, make_folder, remove_scratch, whole_folder, write_errors
from compoundnet.base.machine import cache_folder
from compoundnet.models.weights_files import sha256_of

_LOG = logging.getLogger(__name__)
_ENTRY = "entry.json"
_MOST_BYTES = 4 << 30
# An entry used more recently may be in use by another process, which has found it but not opened it yet.
_LEAST_UNUSED = 3600.0
Identity = Mapping[str, str]


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    identity: dict[str, str]
    files: dict[str, str]


@contextmanager
def stored(kind: str, name: str, identity: Identity | None, make: Callable[[Path], None], doing: str) -> Iterator[Path]:
    """Yield a folder with the content that `make` writes; call `make` only if the cache lacks it.

    Args:
        kind: The purpose of the entry, part of the folder's name.
        name: The name of the network.
        identity: Everything that the content depends on; None if that is unknown, and then nothing is kept.
        make: Writes the content into an empty folder.
        doing: The work of `make`, for the message that it takes a while, such as `compiling for ONNX Runtime`.
    """
    if identity is None:
        _LOG.info("%s: %s", name, doing)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            try:
                make(Path(folder))
            except OSError as error:
                reason = f"{error.strerror or error}; TMPDIR names another folder for temporary files"
                raise CompoundNetError(f"{folder}: cannot be written: {reason}") from error
            yield Path(folder)
        return
    note = f"{name}: {doing}; this is done once and kept"
    found = _found_or_made(location(kind, name, identity), identity, make, note)
    if found is not None:
        yield found
        return
    with stored(kind, name, None, make, doing) as unkept:
        yield unkept


def location(kind: str, name: str, identity: Identity) -> Path:
    """Return the folder of the entry, existing or not; a different identity gives a different folder."""
    digest = hashlib.sha256(json.dumps(dict(identity), sort_keys=True).encode()).hexdigest()[:24]
    readable = re.sub(r"[^A-Za-z0-9._+-]", "_", name)[:80]
    return cache_folder() / "sessions" / f"{readable}-{kind}-{digest}"


def _found_or_made(folder: Path, identity: Identity, make: Callable[[Path], None], note: str) -> Path | None:
    """The entry's folder; None if the cache cannot be written or trusted. Processes that need the same entry wait for
    each other."""
    if not (_is_own(folder.parent) and _is_own(folder)):
        _LOG.warning(
            "the cache %s belongs to another user or can be written by everyone, so it is not used, and the next start"
            " takes as long; COMPOUNDNET_CACHE names another cache",
            folder.parent,
        )
        return None
    if _problem(folder, identity) is None:
        with suppress(OSError):  # a read-only cache
            os.utime(folder)
        return folder
    from filelock import FileLock  # noqa: PLC0415  only what the cache lacks needs it

    try:
        with write_errors(folder), FileLock(make_folder(folder.parent) / f".{folder.name}.lock"):
            problem = _problem(folder, identity)
            if problem is not None:
                if folder.exists():
                    _LOG.warning("the cache entry %s %s; making it anew", folder, problem)
                _LOG.info("%s", note)
                _make(folder, identity, make)
                with suppress(OSError):  # another process removes them at the same time, or they belong to another user
                    _remove_old(folder.parent)
    except UnwritableError as error:
        _LOG.warning("%s, so the next start takes as long; COMPOUNDNET_CACHE names another cache", error)
        return None
    return folder


def _is_own(folder: Path) -> bool:
    """Whether nobody but this user and root can have made the content of a folder; true of one that does not exist.

    In a folder such as /tmp, with the sticky bit, everyone can add entries, but not change those of others.
    """
    try:
        found = folder.stat()
    except OSError:
        return True
    if not hasattr(os, "getuid"):  # Windows
        return True
    if found.st_mode & stat.S_IWOTH:
        return bool(found.st_mode & stat.S_ISVTX)
    return found.st_uid in (0, os.getuid())


def _make(folder: Path, identity: Identity, make: Callable[[Path], None]) -> None:
    remove_scratch(folder)
    with whole_folder(folder) as whole:
        make(whole)
        files = {str(path.relative_to(whole)): sha256_of(path) for path in sorted(whole.rglob("*"))}
        (whole / _ENTRY).write_bytes(msgspec.json.encode(_Entry(dict(identity), files)))


def _remove_old(sessions: Path) -> None:
    """Delete the least recently used entries until the rest fit."""
    entries = sorted((path for path in sessions.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    sizes = [sum(file.stat().st_size for file in entry.rglob("*") if file.is_file()) for entry in entries]
    excess = sum(sizes) - _MOST_BYTES
    for entry, size in zip(entries, sizes, strict=True):
        if excess <= 0 or time.time() - entry.stat().st_mtime < _LEAST_UNUSED:
            return
        shutil.rmtree(entry, ignore_errors=True)
        (sessions / f".{entry.name}.lock").unlink(missing_ok=True)
        excess -= size


def _problem(folder: Path, identity: Identity) -> str | None:
    """The defect of an entry, as words that follow its name; None if it is intact."""
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
