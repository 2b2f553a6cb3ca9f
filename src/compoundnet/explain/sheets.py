"""Maps side by side: the card of one image, a sheet of several images, and the paper's Figure 7.

A card is 960 px wide, the others 1600 px, and all are legible at 600 px, like the project's plots
(`compoundnet.plots`), whose font they use.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from PIL import Image

from compoundnet.arch import Network
from compoundnet.base import CompoundNetError, Notify, ignore
from compoundnet.base.images import Reading
from compoundnet.explain.explainer import Explainer, ImageSource
from compoundnet.explain.maps import ClassMap, Explanation
from compoundnet.explain.overlays import mark, overlay
from compoundnet.explain.pages import CARD, PAGE, Page, Panel, draw_page, fitted
from compoundnet.plots.fonts import legible

if TYPE_CHECKING:
    from compoundnet.explain.explainer import Explainable

# With more columns the images would be too small to see anything.
_COLUMNS = 6
# The number of each model's best classes from which the common class is chosen.
_GUESSES = 10
METHOD_NAMES = {"cam": "Class activation maps", "gradcam": "Grad-CAM"}
_LEGEND = "classes"
# Viewers cannot display a page with more rows.
ROWS = 50


def tell_illegible(explainer: Explainer) -> None:
    """Log which classes of a model are drawn as numbers, because no font of the machine has their characters."""
    labels = explainer.labels or ()
    legible(labels, [f"class {index}" for index in range(len(labels))], _LEGEND, one_font=True)


def card(found: Explanation) -> Page:
    """Draw an image with the map of its first class, its label and probability, and the colour scale."""
    shown = found.maps[0]
    drawn = draw_page([[_map_panel(found.image, shown, CARD)]], _heading(found), across=CARD)
    return Page(drawn, _describe(found, [shown]))


def sheet(explanations: Iterable[Explanation], roles: Sequence[Sequence[str]] | None = None) -> Page:
    """Draw a row for each image, with the image and a map for each class.

    Args:
        explanations: At most ROWS. They are consumed one by one, and reduced, so a generator of them need not fit in
            memory.
        roles: What the class of each map of each image is, such as "predicted"; stands before its label.
    """
    # How wide the panels are, only the most maps of an image tell.
    gathered = [
        (msgspec.structs.replace(found, image=fitted(found.image, PAGE // 2)), _size(found.image))
        for found in explanations
    ]
    if not gathered:
        raise CompoundNetError("a sheet needs at least one image")
    columns = min(max(len(found.maps) for found, _ in gathered) + 1, _COLUMNS)
    width = PAGE // columns
    rows: list[list[Panel]] = []
    described: list[str] = []
    for number, (found, size) in enumerate(gathered):
        shown_as = [""] * len(found.maps) if roles is None else [f"{role}: " for role in roles[number]]
        panels = [
            _image_panel(found.image, _name(found), width, size),
            *(_map_panel(found.image, shown, width, role) for shown, role in zip(found.maps, shown_as, strict=True)),
        ]
        rows += [panels[start : start + columns] for start in range(0, len(panels), columns)]
        described.append(_describe(found, found.maps, shown_as))
    return Page(draw_page(rows, _heading(gathered[0][0])), "\n".join(described))


def grid(
    models: Sequence[Explainable | Explainer],
    images: Sequence[ImageSource],
    *,
    classes: Sequence[str] | None = None,
    titles: Sequence[str] | None = None,
    method: str | None = None,
    backend: str | None = None,
    threads: int | None = None,
    damaged: Notify = ignore,
) -> Page:
    """Draw the paper's Figure 7: a row for each image, a column for each model.

    Args:
        models: Models as for `Explainer`, or explainers.
        images: Image files, or images in memory; at most ROWS.
        classes: The class shown for each image, or one for all; by default the one most probable according to all
            models together. Models whose classes differ from those of the first show their most probable class.
        titles: The titles of the columns; by default name, scaling and input size of the model.
        method: As for `Explainer`.
        backend: The backend of the models.
        threads: Threads of the models.
        damaged: Called with the damage of each image file that is used as far as it can be decoded, which the page's
            description names too.
    """
    if not models or not 0 < len(images) <= ROWS:
        raise CompoundNetError(f"a grid needs at least one model and 1 to {ROWS} images, got {len(images)} images")
    if classes is not None and len(classes) not in (1, len(images)):
        raise CompoundNetError(
            f"a grid shows one class, or one for each of its {len(images)} images, got {len(classes)} classes"
        )
    explainers = [
        model if isinstance(model, Explainer) else Explainer(model, method=method, backend=backend, threads=threads)
        for model in models
    ]
    if titles is not None and len(titles) != len(explainers):
        raise CompoundNetError(f"a grid of {len(explainers)} models needs as many titles, got {len(titles)}")
    heads = list(titles) if titles is not None else [title(one) for one in explainers]
    width = PAGE // (len(explainers) + 1)
    rows, described = [], []
    for number, source in enumerate(images):
        damage: list[str] = []
        pictures = _read_by_each(explainers, source, damage.append)
        wanted = None if classes is None else classes[number % len(classes)]
        shown = zip(_chosen(explainers, pictures, wanted), pictures, strict=True)
        found = [one(picture, classes=[name]) for (one, name), picture in shown]
        name = f"image {number + 1}" if isinstance(source, Image.Image) else Path(source).name
        rows.append(
            [
                _image_panel(pictures[0], name, width, _size(pictures[0])),
                *(_map_panel(one.image, one.maps[0], width) for one in found),
            ]
        )
        if damage:
            damaged(f"{source}: {damage[0]}; used as far as it can be decoded")
            name = f"{name}, which {damage[0]}"
        described.append(f"{name}: " + ", ".join(f"{_class(one.maps[0])} by {one.model}" for one in found))
    what = METHOD_NAMES[explainers[0].method]
    if len({one.method for one in explainers}) > 1:
        what = "Class activation maps and Grad-CAM"
        heads = [f"{head}: {METHOD_NAMES[one.method]}" for head, one in zip(heads, explainers, strict=True)]
    description = f"{what} of {len(rows)} images (rows) by {', '.join(heads)} (columns). {'; '.join(described)}."
    return Page(draw_page(rows, what, heads=["image", *heads]), description)


def title(explainer: Explainer) -> str:
    """Return the title of a model's column: its name, scaling and input size."""
    network = explainer.network
    scaling = "" if network is None else _scaling(network)
    return ", ".join(part for part in (explainer.name, scaling, f"{explainer.preprocess.size} px") if part)


def _scaling(network: Network) -> str:
    """The multipliers of depth, width and resolution in the paper's letters, if the network was scaled."""
    if network.scaling is None:
        return ""
    pairs = (("d", network.scaling.depth), ("w", network.scaling.width), ("r", network.scaling.resolution))
    return " ".join(f"{letter}={value:.3g}" for letter, value in pairs if value != 1)


def _read_by_each(explainers: Sequence[Explainer], source: ImageSource, damaged: Notify) -> list[Image.Image]:
    """The image as each model receives it: one of more than 8 bits a value is scaled by the range of the model."""
    read: dict[Reading, Image.Image] = {}
    for one in explainers:
        if one.reading not in read:
            read[one.reading] = one.read(source, damaged=damaged)
    return [read[one.reading] for one in explainers]


def _chosen(
    explainers: Sequence[Explainer], pictures: Sequence[Image.Image], wanted: str | None
) -> Iterator[tuple[Explainer, str]]:
    """Each model with the class that it shows for an image, of which it receives its picture."""
    if wanted is None:
        together: defaultdict[str, float] = defaultdict(float)
        for one, picture in zip(explainers, pictures, strict=True):
            for guess in one(picture, top=_GUESSES, classes=[]).predictions:
                together[guess.label] += guess.probability
    for one in explainers:
        if wanted is not None:
            yield one, wanted
        else:
            known = (label for label in sorted(together, key=lambda label: -together[label]) if one.knows(label))
            yield one, next(known)


def _size(image: Image.Image) -> str:
    return f"{image.width} x {image.height} px"


def _image_panel(image: Image.Image, name: str, width: int, size: str) -> Panel:
    (name,) = legible([name], ["image"], "file names", one_font=True)
    return Panel(fitted(image, width), name, size)


def _map_panel(image: Image.Image, shown: ClassMap, width: int, role: str = "") -> Panel:
    drawn = overlay(fitted(image, width), shown)
    mark(drawn, shown)
    remark = "" if shown.box is not None else ", no evidence"
    if shown.threshold is not None and shown.probability < shown.threshold:
        remark = f" (below {_percent(shown.threshold)}){remark}"
    (label,) = legible([shown.label], [f"class {shown.index}"], _LEGEND, one_font=True)
    return Panel(drawn, f"{role}{label}", f"{_percent(shown.probability)}{remark}")


def _percent(probability: float) -> str:
    return f"{probability:.1%}" if probability >= 0.001 else "< 0.1%"


def _class(shown: ClassMap) -> str:
    return f"{shown.label} {_percent(shown.probability)}"


def _name(found: Explanation) -> str:
    return "image" if found.path is None else Path(found.path).name


def _heading(found: Explanation) -> str:
    return f"{METHOD_NAMES[found.method]} of {found.model}"


def _describe(found: Explanation, shown: Sequence[ClassMap], roles: Sequence[str] = ()) -> str:
    classes = [f"{role}{_class(one)}" for one, role in zip(shown, roles or [""] * len(shown), strict=True)]
    return f"{_heading(found)}, {_name(found)}: {', '.join(classes)}."
