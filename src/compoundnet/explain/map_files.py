"""The output folder of `compoundnet explain`: an overlay of each image, sheets of all images, and the numbers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from compoundnet.base import CompoundNetError, json_document, make_folder, write_whole
from compoundnet.base.images import UnreadableImageError
from compoundnet.base.progress import Notify, Progress, ignore
from compoundnet.explain.explainer import Explainer
from compoundnet.explain.maps import BOX_SHARE, Explanation
from compoundnet.explain.sheets import ROWS, card, grid, sheet, tell_illegible
from compoundnet.models.preprocess import Box

MAPS_FILE = "maps.json"
GRID_FILE = "grid.jpg"


class ImageMaps(msgspec.Struct, frozen=True, omit_defaults=True):
    """The maps of one image, or the reason why it could not be read.

    Attributes:
        path: The file of the image.
        error: The reason why it could not be read; the following fields are then missing.
        damage: The damage of a truncated file that is used as far as it can be decoded.
        overlay: File name of the overlay.
        width: Width of the image, pixels.
        height: Height of the image, pixels.
        seen: The box of the image that the network received.
        maps: `ClassMap.facts` of each class.
    """

    path: str
    error: str | None = None
    damage: str | None = None
    overlay: str | None = None
    width: int | None = None
    height: int | None = None
    seen: Box | None = None
    maps: tuple[dict[str, Any], ...] | None = None


class MapFolder(msgspec.Struct, frozen=True):
    """The content of `maps.json`.

    Attributes:
        model: The name of the model.
        method: The method that made the maps.
        box_share: The fraction of a map's maximum above which a region is its box.
        sheets: The files of the sheets.
        images: The maps of each image.
        notes: Lines on what was assumed and left out.
    """

    model: str
    method: str
    box_share: float
    sheets: tuple[str, ...]
    images: tuple[ImageMaps, ...]
    notes: tuple[str, ...]

    @property
    def failures(self) -> int:
        """The number of images that could not be read."""
        return sum(image.error is not None for image in self.images)

    @property
    def damaged(self) -> int:
        """The number of truncated images that were used as far as they can be decoded."""
        return sum(image.damage is not None for image in self.images)


def write_maps(
    explainer: Explainer,
    images: Sequence[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    *,
    top: int | None = None,
    classes: Sequence[str] | None = None,
    notes: Sequence[str] = (),
    progress: Progress = ignore,
    notify: Notify = ignore,
    damaged: Notify = ignore,
) -> MapFolder:
    """Explain images and write `NAME.METHOD.jpg` for each (its first class), sheets of all classes, and `maps.json`.

    Args:
        explainer: The model.
        images: Image files. An unreadable file does not stop the others.
        folder: The output folder, created if it does not exist.
        top: The number of most probable classes with a map; 3 by default.
        classes: The classes that get a map instead, by label or number.
        notes: Lines for `maps.json`.
        progress: Called with 1 after each image.
        notify: Called with the reason for each image that cannot be read.
        damaged: Called with the damage of each image that is used as far as it can be decoded.

    Raises:
        CompoundNetError: a class is not known, or the folder cannot be written.
    """
    for name in classes or ():
        explainer.index(name)
    tell_illegible(explainer)
    output = make_folder(folder)
    paths = [Path(image) for image in images]
    names = _overlay_names(paths, explainer.method)
    done: list[ImageMaps] = []
    sheets: list[str] = []

    def explained(some: Sequence[Path]) -> Iterator[Explanation]:
        """Yield the explanations of readable images one by one, and write their overlays."""
        for path in some:
            try:
                found = explainer(path, top=top, classes=classes)
            except UnreadableImageError as error:
                notify(str(error))
                done.append(ImageMaps(str(path), error=error.reason))
            else:
                if found.damage is not None:
                    damaged(f"{path}: {found.damage}; used as far as it can be decoded")
                write_whole(output / names[path], card(found).jpeg())
                done.append(_record(path, names[path], found))
                yield found
            progress(1)

    for start in range(0, len(paths), ROWS):
        readable = explained(paths[start : start + ROWS])
        first = next(readable, None)
        if first is not None:
            name = "sheet.jpg" if len(paths) <= ROWS else f"sheet-{len(sheets) + 1}.jpg"
            write_whole(output / name, sheet(chain([first], readable)).jpeg())
            sheets.append(name)
    written = MapFolder(explainer.name, explainer.method, BOX_SHARE, tuple(sheets), tuple(done), tuple(notes))
    write_whole(output / MAPS_FILE, json_document(written))
    return written


def write_grid(
    explainers: Sequence[Explainer],
    images: Sequence[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    *,
    classes: Sequence[str] | None = None,
    damaged: Notify = ignore,
) -> str:
    """Write the paper's Figure 7 for these models and images as `grid.jpg`, and return its description.

    Args:
        explainers: The models.
        images: Image files.
        folder: The output folder, created if it does not exist.
        classes: The class shown for each image, or one for all, as for `grid`.
        damaged: Called with the damage of each image that is used as far as it can be decoded.

    Raises:
        CompoundNetError: As for `grid`, or if the folder cannot be written.
    """
    if not explainers:
        raise CompoundNetError("a grid needs at least one model")
    for explainer in explainers:
        for name in classes or ():
            explainer.index(name)
    tell_illegible(explainers[0])
    output = make_folder(folder)
    drawn = grid(explainers, images, classes=classes, damaged=damaged)
    write_whole(output / GRID_FILE, drawn.jpeg())
    return drawn.description


def _record(path: Path, overlay: str, found: Explanation) -> ImageMaps:
    return ImageMaps(
        str(path),
        damage=found.damage,
        overlay=overlay,
        width=found.image.width,
        height=found.image.height,
        seen=found.maps[0].seen,
        maps=tuple(shown.facts() for shown in found.maps),
    )


def _overlay_names(paths: Sequence[Path], method: str) -> dict[Path, str]:
    """The overlay file of each image: the name of the image, with a number if another image has the same name."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in paths:
        name, number = f"{path.stem}.{method}.jpg", 1
        while name.casefold() in taken:  # some file systems ignore case
            number += 1
            name = f"{path.stem}-{number}.{method}.jpg"
        taken.add(name.casefold())
        names[path] = name
    return names
