"""Finds images in files and folders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from compoundnet.base import CompoundNetError, Notify, ignore
from compoundnet.base.images import image_suffixes, unread_files


def find_images(paths: Iterable[str | os.PathLike[str]], *, notify: Notify = ignore) -> list[Path]:
    """Find the images of files and folders, in the order given.

    Folders are searched recursively, each level sorted by name, without hidden files and folders and without files that
    do not have the suffix of an image. A file is returned unchanged, even if it does not exist: reading it reports the
    error.

    Args:
        paths: Files and folders.
        notify: Called with a line about images in the folders that cannot be read in this installation.

    Raises:
        CompoundNetError: a folder has no images, or cannot be listed.
    """
    left_out: list[str] = []
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            found.append(path)
            continue
        names: list[str] = []
        images = list(_walk(path, (), names))
        if not images:
            unread = unread_files(names)
            raise CompoundNetError(
                f"{path}: there are no images in this folder or below it{'' if unread is None else f'; {unread}'}"
            )
        found += images
        left_out += names
    if (unread := unread_files(left_out)) is not None:
        notify(unread)
    return found


def visible(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    """List a folder without hidden entries, sorted by name. Raises CompoundNetError if that is not possible."""
    try:
        with os.scandir(folder) as listed:
            return sorted((entry for entry in listed if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise CompoundNetError(f"{os.fspath(folder)}: cannot be listed: {error.strerror or error}") from error


def _walk(folder: Path, above: tuple[Path, ...], others: list[str]) -> Iterator[Path]:
    """Yield the images; the names of the other files are added to `others`."""
    real = folder.resolve()
    if real in above:  # a link that loops
        return
    for entry in visible(folder):
        if entry.is_dir():
            yield from _walk(Path(entry), (*above, real), others)
        elif Path(entry).suffix.lower() in image_suffixes() and entry.is_file():
            yield Path(entry)
        else:
            others.append(entry.name)
