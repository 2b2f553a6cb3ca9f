"""Where the files are that a list names: lists move between machines and systems, and their images stay behind."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PureWindowsPath

import msgspec

from compoundnet.base.images import image_suffixes

# Rows that decide where the paths of a list start.
_SAMPLE = 50
# Folders in a path; a cell with more separators is damaged, and no path.
_DEEPEST = 128


class Located(msgspec.Struct, frozen=True):
    """The files of a list.

    Attributes:
        folder: Where relative names start.
        names: For each row the name below the folder, or an absolute path; None where there is no file.
        remarks: How names were read that are not files as they are.
    """

    folder: Path
    names: list[str | None]
    remarks: tuple[str, ...]


def locate(values: Sequence[str], folder: Path) -> Located:
    """Find the files that a list names.

    A path is relative to the list's folder, or absolute. If most of them are not there, they are looked for in the
    folders inside it, in the folder above it, and without the first folders of the path, which another machine had.
    Windows' separators, another case, another form of accents and a missing suffix are accepted.

    Args:
        values: Paths as they are written in the list.
        folder: The list's folder.
    """
    files = _Files()
    sample = [_parts(value) for value in values[:: max(1, len(values) // _SAMPLE)]]
    base, dropped, found = folder, 0, _found(files, folder, sample, 0)
    alike: list[Path] = []
    if found < (len(sample) + 1) // 2:
        for other, drop in _elsewhere(folder, sample):
            there = _found(files, other, sample, drop)
            if there > found:
                base, dropped, found, alike = other, drop, there, []
            elif there == found > 0 and drop == dropped and other != base:
                alike.append(other)
    files.counts.clear()
    names = [files.find(base, _parts(value)[dropped:]) for value in values]
    remarks = [f"{count:,} paths of the list {how}" for how, count in files.counts.items()]
    slashes = sum("\\" in value for value in values)
    if slashes:
        remarks.insert(0, f"{slashes:,} paths of the list have Windows' separators, and were read with /")
    if base != folder or dropped:
        first, *rest = _parts(values[0])[:dropped] or ("",)
        without = f", without {first.rstrip('/')}/{'/'.join(rest)}" if dropped else ""
        also = f"; {' and '.join(map(str, alike[:3]))} hold files of the same names" if alike else ""
        remarks.append(f"the paths of the list are read from {base}{without}, because the images are there{also}")
    return Located(base, names, tuple(remarks))


def _found(files: _Files, base: Path, sample: Sequence[tuple[str, ...]], drop: int) -> int:
    return sum(files.find(base, parts[drop:]) is not None for parts in sample)


def _elsewhere(folder: Path, sample: Sequence[tuple[str, ...]]) -> Iterator[tuple[Path, int]]:
    """Yield other folders where paths may start, and how many of their first folders to drop."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        inside = [Path(entry) for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    except OSError:
        inside = []
    bases = (folder, *inside, folder.parent)
    for drop in range(min([_DEEPEST, *map(len, sample)])):
        for base in bases:
            yield base, drop


def _parts(value: str) -> tuple[str, ...]:
    """Split a path at / or, where it has none, at Windows' separators. Absolute paths start with / or a drive."""
    if "\\" in value:
        first, *rest = PureWindowsPath(value).parts
        return (first.replace("\\", "/"), *rest)
    value = value.removeprefix("file://")
    parts = [part for part in value.split("/") if part not in ("", ".")]
    return ("/", *parts) if value.startswith("/") else tuple(parts)


class _Files:
    """Looks files up in the listings of their folders: each folder is listed once, however many files it holds."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._listings: dict[str, _Listing] = {}
        self._folders: dict[tuple[str, ...], str | None] = {}

    def find(self, base: Path, parts: tuple[str, ...]) -> str | None:
        """Return the name of a file below `base` (or its absolute path) as it is on disk; None if there is none."""
        if not 1 + parts[:1].count("/") <= len(parts) <= _DEEPEST:
            return None
        absolute = parts[0] == "/"
        start = "/" if absolute else os.fspath(base)
        folder = self._folder(start, parts[1:-1] if absolute else parts[:-1])
        if folder is None:
            return None
        name = self._entry(folder, parts[-1], file=True)
        if name is None:
            return None
        path = os.path.join(folder, name)  # noqa: PTH118  called for each of many rows
        return path if absolute else path[len(start) :].lstrip(os.sep).replace(os.sep, "/")

    def _folder(self, start: str, parts: tuple[str, ...]) -> str | None:
        key = (start, *parts)
        if key not in self._folders:
            self._folders[key] = self._walk(start, parts)
        return self._folders[key]

    def _walk(self, folder: str, parts: tuple[str, ...]) -> str | None:
        for part in parts:
            name = self._entry(folder, part, file=False)
            if name is None:
                return None
            folder = os.path.join(folder, name)  # noqa: PTH118
        return folder

    def _entry(self, folder: str, name: str, *, file: bool) -> str | None:
        if folder not in self._listings:
            self._listings[folder] = _Listing.of(folder)
        found, how = self._listings[folder].find(name, file=file)
        if how:
            self.counts[how] = self.counts.get(how, 0) + file
        return found


class _Listing(msgspec.Struct):
    """The names in a folder, and on demand the names by what they are compared without."""

    names: frozenset[str]
    alike: dict[str, list[str]] | None = None
    stems: dict[str, list[str]] | None = None

    @classmethod
    def of(cls, folder: str) -> _Listing:
        try:
            with os.scandir(folder) as entries:  # pipes, devices and dead links are no files
                return cls(frozenset(entry.name for entry in entries if entry.is_file() or entry.is_dir()))
        except OSError:
            return cls(frozenset())

    def find(self, name: str, *, file: bool) -> tuple[str | None, str]:
        """Return the entry that a name denotes, and how it differs; of several that differ alike, none."""
        if name in self.names:
            return name, ""
        if self.alike is None:
            self.alike = _grouped(self.names, _folded)
        close = self.alike.get(_folded(name), [])
        if len(close) == 1:
            return close[0], "differ from the files in case, or in the form of accents"
        suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122  called for each of many rows
        if file and suffix not in image_suffixes():
            if self.stems is None:
                images = (entry for entry in self.names if os.path.splitext(entry)[1].lower() in image_suffixes())  # noqa: PTH122
                self.stems = _grouped(images, lambda entry: os.path.splitext(entry)[0])  # noqa: PTH122
            close = self.stems.get(name, [])
            if len(close) == 1:
                return close[0], "have no suffix, and were matched with the files that do"
        return None, ""


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _grouped(names: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(key(name), []).append(name)
    return groups
