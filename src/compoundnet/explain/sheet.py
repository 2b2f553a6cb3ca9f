"""Maps side by side: one picture's card, a sheet of several pictures, and the paper's Figure 7.

A card is 960 px wide, the others 1600, and they stay legible at 600, as the figures of numbers (`compoundnet.plots`),
whose type they share.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from compoundnet import data
from compoundnet.arch import Network
from compoundnet.base import CompoundNetError
from compoundnet.explain.drawing import mark, overlay
from compoundnet.explain.drawn import Drawn
from compoundnet.explain.explainer import Explainer, Picture
from compoundnet.explain.layout import CARD, PAGE, Panel, fitted, page
from compoundnet.explain.maps import ClassMap, Explanation

if TYPE_CHECKING:
    from compoundnet.explain.subject import Explainable

# More pictures would be smaller than a thumb.
_COLUMNS = 6
# So many of each model's best classes are considered for the one that all show.
_GUESSES = 10
METHOD_NAMES = {"cam": "Class activation maps", "gradcam": "Grad-CAM"}
# A page of more rows is more than a viewer takes.
ROWS = 50


def card(found: Explanation) -> Drawn:
    """The picture with the map of its first class, its name and probability, and the scale of the colours."""
    shown = found.maps[0]
    return Drawn(page([[_panel(found.picture, shown, CARD)]], _heading(found), across=CARD), _told(found, [shown]))


def sheet(explanations: Iterable[Explanation]) -> Drawn:
    """A row for each picture, with the picture and a map for each class. At most ROWS pictures.

    One is read after the other, so they may come from a generator and need not fit memory.
    """
    rows: list[list[Panel]] = []
    described: list[str] = []
    heading = ""
    for found in explanations:
        columns = min(len(found.maps) + 1, _COLUMNS)
        width = PAGE // columns
        panels = [
            _photo(found.picture, _name(found), width),
            *(_panel(found.picture, shown, width) for shown in found.maps),
        ]
        rows += [panels[start : start + columns] for start in range(0, len(panels), columns)]
        described.append(_told(found, found.maps))
        heading = _heading(found)
    if not rows:
        raise CompoundNetError("a sheet needs at least one picture")
    return Drawn(page(rows, heading), "\n".join(described))


def grid(
    models: Sequence[Explainable | Explainer],
    images: Sequence[Picture],
    *,
    classes: Sequence[str] | None = None,
    titles: Sequence[str] | None = None,
    method: str = "cam",
    backend: str | None = None,
    threads: int | None = None,
) -> Drawn:
    """The paper's Figure 7: a row for each picture, a column for each model.

    classes  the class shown of each picture, or one for all. Unless given the one that the models together find most
             probable; models of other classes than the first show their own best
    titles   of the columns; the model's name, scaling and picture size unless given
    """
    if not models or not 0 < len(images) <= ROWS:
        raise CompoundNetError(f"a grid needs at least one model and 1 to {ROWS} pictures, got {len(images)} pictures")
    if classes is not None and len(classes) not in (1, len(images)):
        raise CompoundNetError(
            f"a grid shows one class, or one for each of its {len(images)} pictures, got {len(classes)} classes"
        )
    explainers = [
        model if isinstance(model, Explainer) else Explainer(model, method=method, backend=backend, threads=threads)
        for model in models
    ]
    if titles is not None and len(titles) != len(explainers):
        raise CompoundNetError(f"a grid of {len(explainers)} models needs as many titles, got {len(titles)}")
    heads = list(titles) if titles is not None else [title(one) for one in explainers]
    width = PAGE // (len(explainers) + 1)
    rows, told = [], []
    for number, image in enumerate(images):
        picture = image if isinstance(image, Image.Image) else data.read_image(image)
        wanted = None if classes is None else classes[number % len(classes)]
        found = [one(picture, classes=[name]) for one, name in _chosen(explainers, picture, wanted)]
        name = f"picture {number + 1}" if isinstance(image, Image.Image) else Path(image).name
        rows.append([_photo(picture, name, width), *(_panel(one.picture, one.maps[0], width) for one in found)])
        told.append(f"{name}: " + ", ".join(f"{_class(one.maps[0])} by {one.model}" for one in found))
    what = METHOD_NAMES[explainers[0].method]
    description = f"{what} of {len(rows)} pictures (rows) by {', '.join(heads)} (columns). {'; '.join(told)}."
    return Drawn(page(rows, what, heads=["picture", *heads]), description)


def title(explainer: Explainer) -> str:
    """What stands above a model's column: its name, how it was scaled, and the pictures it sees."""
    network = explainer.network
    scaling = "" if network is None else _scaling(network)
    return ", ".join(part for part in (explainer.name, scaling, f"{explainer.preprocess.size} px") if part)


def _scaling(network: Network) -> str:
    """The multipliers of depth, width and resolution in the paper's letters, where the network was scaled."""
    if network.scaling is None:
        return ""
    pairs = (("d", network.scaling.depth), ("w", network.scaling.width), ("r", network.scaling.resolution))
    return " ".join(f"{letter}={value:.3g}" for letter, value in pairs if value != 1)


def _chosen(
    explainers: Sequence[Explainer], picture: Image.Image, wanted: str | None
) -> Iterator[tuple[Explainer, str]]:
    """Each model with the class that it shows of a picture."""
    if wanted is None:
        together: defaultdict[str, float] = defaultdict(float)
        for one in explainers:
            for guess in one(picture, top=_GUESSES, classes=[]).predictions:
                together[guess.label] += guess.probability
    for one in explainers:
        if wanted is not None:
            yield one, wanted
        else:
            known = (label for label in sorted(together, key=lambda label: -together[label]) if one.knows(label))
            yield one, next(known)


def _photo(picture: Image.Image, name: str, width: int) -> Panel:
    return Panel(fitted(picture, width), name, f"{picture.width} x {picture.height} px")


def _panel(picture: Image.Image, shown: ClassMap, width: int) -> Panel:
    """The map of a class, as wide as `width`."""
    drawn = overlay(fitted(picture, width), shown)
    mark(drawn, shown)
    nowhere = "" if shown.box is not None else ", nowhere"
    return Panel(drawn, shown.label, f"{_percent(shown.probability)}{nowhere}")


def _percent(probability: float) -> str:
    return f"{probability:.1%}" if probability >= 0.001 else "< 0.1%"


def _class(shown: ClassMap) -> str:
    return f"{shown.label} {_percent(shown.probability)}"


def _name(found: Explanation) -> str:
    return "picture" if found.path is None else Path(found.path).name


def _heading(found: Explanation) -> str:
    return f"{METHOD_NAMES[found.method]} of {found.model}"


def _told(found: Explanation, shown: Sequence[ClassMap]) -> str:
    return f"{_heading(found)}, {_name(found)}: {', '.join(map(_class, shown))}."
