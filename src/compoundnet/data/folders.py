"""Finds images in files and folders, and says what it leaves out.

Every command finds them alike: links are followed, each folder is read once, and hidden files, files of systems and
tools, and what this program wrote are left out.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, groupby
from pathlib import Path
from typing import overload

import msgspec

from compoundnet.base import CompoundNetError, Notify, ignore, irregular
from compoundnet.base.images import image_suffixes, unread_files, unread_suffixes
from compoundnet.data.names import MAPS_FILE, is_made_by_tools, is_map_file, written_by_compoundnet
from compoundnet.data.sources import Strings

_EXAMPLES = 5
# Files that are looked at to see whether a folder that is left out holds images.
_GLANCE = 2000


# Reason -> (one, several): what was left out, as words that follow the count.
_REASONS = {
    "made by tools": ("folder made by tools", "folders made by tools"),
    "hidden": ("hidden folder", "hidden folders"),
    "hidden with images": (
        "hidden folder with images, to be renamed without the dot if it is meant",
        "hidden folders with images, to be renamed without the dot if they are meant",
    ),
    "hidden images": ("hidden image", "hidden images"),
    "not downloaded": (
        "image that is in iCloud, not on this machine",
        "images that are in iCloud, not on this machine",
    ),
    "written by compoundnet": ("folder written by compoundnet", "folders written by compoundnet"),
    "written beside images": (
        "class activation map that compoundnet wrote",
        "class activation maps that compoundnet wrote",
    ),
    "read already": ("link to a folder that was read already", "links to folders that were read already"),
    "dead link": ("link that leads to no file", "links that lead to no file"),
    "not regular": ("entry that is not a regular file", "entries that are not regular files"),
    "outside classes": ("image outside the class folders", "images outside the class folders"),
    "beside splits": ("folder beside the splits", "folders beside the splits"),
    "without images": ("folder without images", "folders without images"),
    "no class folders": ("split folder without class folders", "split folders without class folders"),
    "cannot be read here": ("image that cannot be read here", "images that cannot be read here"),
    "no suffix": ("file without a suffix, which images need", "files without a suffix, which images need"),
    "not images": ("file that is not an image", "files that are not images"),
}


class LeftOut(msgspec.Struct, frozen=True):
    """What was not taken, and why.

    Attributes:
        reason: The reason.
        count: The number of files or folders.
        examples: The first few of them, as paths below the data's folder; of files that are not images the numbers by
            suffix.
        advice: What to do so that they are taken.
    """

    reason: str
    count: int
    examples: tuple[str, ...]
    advice: str = ""

    def text(self) -> str:
        """Return it as a clause: `2 folders made by tools (__MACOSX, .ipynb_checkpoints)`."""
        advice = f": {self.advice}" if self.advice else ""
        more = ", ..." if self.count > len(self.examples) and self.reason != "not images" else ""
        return f"{self.count:,} {_REASONS[self.reason][self.count != 1]} ({', '.join(self.examples)}{more}){advice}"


class LeftOutFiles:
    """Collects what is left out while folders are read."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}
        self._suffixes: dict[str, int] = {}
        self._unread: dict[str, list[str]] = {}  # by advice

    def add(self, reason: str, name: str) -> None:
        """Count one file or folder."""
        assert reason in _REASONS
        self._counts[reason] = self._counts.get(reason, 0) + 1
        examples = self._examples.setdefault(reason, [])
        if len(examples) < _EXAMPLES:
            examples.append(name)

    def add_many(self, reason: str, count: int, name: str) -> None:
        """Count several files that `name` stands for."""
        self.add(reason, name)
        self._counts[reason] += count - 1

    def add_other(self, suffix: str, name: str) -> None:
        """Count one file that does not have the suffix of an image that can be read."""
        if suffix in unread_suffixes():
            self._unread.setdefault(unread_suffixes()[suffix], []).append(name)
        elif not suffix:
            self.add("no suffix", name)
        else:
            self._suffixes[suffix] = self._suffixes.get(suffix, 0) + 1

    def unread(self) -> str | None:
        """Return one line on images that cannot be read in this installation; None if there are none."""
        return unread_files(name for names in self._unread.values() for name in names)

    def all(self) -> tuple[LeftOut, ...]:
        """Return everything that was left out, by reason."""
        found = [LeftOut(reason, count, tuple(self._examples[reason])) for reason, count in self._counts.items()]
        for advice, names in self._unread.items():
            found.append(LeftOut("cannot be read here", len(names), tuple(names[:_EXAMPLES]), advice))
        if self._suffixes:
            by_count = sorted(self._suffixes.items(), key=lambda pair: (-pair[1], pair[0]))
            shown = tuple(f"{count:,} {suffix}" for suffix, count in by_count[:_EXAMPLES])
            found.append(LeftOut("not images", sum(self._suffixes.values()), shown))
        return tuple(found)


class ImagePaths(Sequence[Path]):
    """Paths in order, as the bytes of their names: as a list, a million paths would take 0.5 GB.

    Args:
        parts: Folders with the names below them.
    """

    def __init__(self, parts: Iterable[tuple[Path, Strings]]) -> None:
        self._parts = tuple(parts)
        self._ends = list(accumulate(len(names) for _, names in self._parts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> Path: ...

    @overload
    def __getitem__(self, index: slice) -> list[Path]: ...

    def __getitem__(self, index: int | slice) -> Path | list[Path]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        part = bisect_right(self._ends, place)
        folder, names = self._parts[part]
        return folder / names[place - (self._ends[part - 1] if part else 0)]

    def __iter__(self) -> Iterator[Path]:
        return (folder / name for folder, names in self._parts for name in names)

    def __repr__(self) -> str:
        return f"<ImagePaths of {len(self):,} images>"


def find_images(paths: Iterable[str | os.PathLike[str]], *, notify: Notify = ignore) -> ImagePaths:
    """Find the images of files and folders, in the order given.

    Folders are searched recursively, each level sorted by name. A file is returned unchanged, even if it does not
    exist: reading it reports the error. A hidden folder is read if it is named here.

    Args:
        paths: Files and folders.
        notify: Called with a line on images that cannot be read here, and one on what else was left out.

    Raises:
        CompoundNetError: a folder has no images, or cannot be listed.
    """
    found: list[tuple[Path, Strings]] = []
    left = LeftOutFiles()
    for is_folder, group in groupby(map(Path, paths), Path.is_dir):
        if not is_folder:
            found.append((Path(), Strings.of(map(str, group))))
            continue
        for path in group:
            found.append((path, Strings.of(images_below(path, "", left, Visited(path)))))
            if not len(found[-1][1]):
                raise CompoundNetError(
                    "; ".join([f"{path}: there are no images in this folder or below it", *_lines(left)])
                )
    for line in _lines(left):
        notify(line)
    return ImagePaths(found)


class Visited:
    """The real folders that were read, so that links never lead in a circle or to the same images twice.

    Args:
        root: The data's folder: no link may lead to it, or to a folder above it.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = os.path.realpath(root)
        self._places: dict[str, dict[str, str]] = {}
        self.shared: list[tuple[str, str]] = []

    def enter(self, folder: str, name: str, group: str) -> bool:
        """Return whether to read a folder.

        A folder that two groups reach is read for both, and noted in `shared` with the names under which they do.

        Args:
            folder: Its path.
            name: Its name below the root.
            group: The class and split that it is read for.
        """
        real = os.path.realpath(folder)
        if name and (self._root == real or self._root.startswith(real.rstrip(os.sep) + os.sep)):
            return False
        places = self._places.setdefault(real, {})
        if group in places:
            return False
        if places:
            self.shared.append((next(iter(places.values())), name))
        places[group] = name
        return True


def images_below(folder: Path, name: str, left: LeftOutFiles, visited: Visited, group: str = "") -> Iterator[str]:
    """Yield the names of all images in a folder and below, sorted at each level.

    Args:
        folder: The data's folder.
        name: The folder to read, below it.
        left: Receives what is left out.
        visited: The folders that were read before.
        group: The class and split that it is read for.

    Raises:
        CompoundNetError: a folder cannot be listed.
    """
    path = os.path.join(folder, name) if name else os.fspath(folder)  # noqa: PTH118  called for each folder of many
    if not visited.enter(path, name, group):
        left.add("read already", name)
        return
    entries = listed(path)
    beside_maps = any(entry.name == MAPS_FILE for entry in entries)
    inside = f"{name}/" if name else ""
    entries.reverse()
    while entries:
        entry = entries.pop()  # freed as they are read: there may be a million
        below = f"{inside}{entry.name}"
        if entry.is_dir():
            if is_wanted(entry, below, left):
                yield from images_below(folder, below, left, visited, group)
        elif entry.name.startswith("."):
            if (hidden := _hidden(entry.name)) is not None:
                left.add(hidden, below)
        elif is_made_by_tools(entry.name, folder=False):
            continue
        elif beside_maps and is_map_file(entry.name):
            left.add("written beside images", below)
        elif (suffix := os.path.splitext(entry.name)[1].lower()) not in image_suffixes():  # noqa: PTH122  a million times
            left.add_other(suffix, below)
        elif entry.is_file():
            yield below
        else:
            left.add("dead link" if irregular(entry.path) is None else "not regular", below)


def is_wanted(entry: os.DirEntry[str], name: str, left: LeftOutFiles) -> bool:
    """Whether a folder is to be read; if not, `left` receives it under `name`."""
    if is_made_by_tools(entry.name, folder=True):
        left.add("made by tools", name)
    elif entry.name.startswith("."):
        left.add("hidden with images" if holds_images(entry.path) else "hidden", name)
    elif (written := _written(entry)) is not None:
        left.add("written by compoundnet", f"{name}: {written}")
    else:
        return True
    return False


def listed(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    """List a folder, sorted by name. Raises CompoundNetError if that is not possible."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise CompoundNetError(f"{os.fspath(folder)}: cannot be listed: {error.strerror or error}") from error


def _hidden(name: str) -> str | None:
    """Return why a hidden file is named among what was left out; None if it is no image."""
    suffix = Path(name).suffix.lower()
    if suffix == ".icloud":
        return "not downloaded"
    return "hidden images" if suffix in image_suffixes() and not is_made_by_tools(name, folder=False) else None


def holds_images(folder: str | os.PathLike[str]) -> bool:
    """Whether there are images in a folder or below it, as far as a glance shows: its first 2,000 files."""
    seen = 0
    for _, _, files in os.walk(folder):
        for name in files:
            seen += 1
            if os.path.splitext(name)[1].lower() in image_suffixes():  # noqa: PTH122  as above
                return True
            if seen > _GLANCE:
                return False
    return False


def _written(entry: os.DirEntry[str]) -> str | None:
    """What this program wrote into a folder, if it did."""
    try:
        return written_by_compoundnet(entry.name, os.listdir(entry.path))  # noqa: PTH208  names, for each folder of many
    except OSError:
        return None  # reading it reports the error


def _lines(left: LeftOutFiles) -> list[str]:
    """Return what was left out, as lines: images that cannot be read here, and others. Text files are no news."""
    others = [out.text() for out in left.all() if out.reason not in ("cannot be read here", "not images")]
    return [*filter(None, [left.unread()]), *([f"left out: {'; '.join(others)}"] if others else [])]
