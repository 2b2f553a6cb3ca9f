"""Finds images in files and folders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from compoundnet.base import CompoundNetError
from compoundnet.base.images import image_suffixes


def find_images(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Find the images of files and folders, in the order given.

    Folders are searched recursively, each level sorted by name, without hidden files and folders and without files that
    do not have the suffix of an image. A file is returned unchanged, even if it does not exist: reading it reports the
    error.

    Raises:
        CompoundNetError: a folder has no images, or cannot be listed.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            found.append(path)
            continue
        images = list(_walk(path, ()))
        if not images:
            raise CompoundNetError(f"{path}: there are no images in this folder or below it")
        found += images
    return found


def visible(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    """List a folder without hidden entries, sorted by name. Raises CompoundNetError if that is not possible."""
    try:
        with os.scandir(folder) as listed:
            return sorted((entry for entry in listed if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise CompoundNetError(f"{os.fspath(folder)}: cannot be listed: {error.strerror or error}") from error


def _walk(folder: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    real = folder.resolve()
    if real in above:  # a link that loops
        return
    for entry in visible(folder):
        if entry.is_dir():
            yield from _walk(Path(entry), (*above, real))
        elif Path(entry).suffix.lower() in image_suffixes() and entry.is_file():
            yield Path(entry)
