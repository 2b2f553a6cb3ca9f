"""Maps as pictures: over the photo, side by side on a sheet, and as the paper's Figure 7."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compoundnet.explain.maps import ClassMap, Explanation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

# Rises evenly in lightness, so it reads in grey and with any colour vision.
_COLOURS = "inferno"
_STRENGTH = 0.6
_SCALE = "what a place adds to the class's logit, as a share of the largest"
# Inches beside the pictures: a line above each, the models' names, the scale of the colours below.
_TITLE, _HEADING, _LEGEND = 0.3, 0.2, 0.7
# Longer labels are cut: ImageNet's list all synonyms.
_LABEL = 24


def overlay(image: Image.Image, shown: ClassMap) -> Image.Image:
    """The picture with a class's map over it; what speaks against the class counts as 0, and what the network has not
    seen is darkened."""
    import matplotlib as mpl

    strength = _strength(shown.heat)
    unseen = np.isnan(strength)
    colours = mpl.colormaps[_COLOURS](np.nan_to_num(strength, nan=0.0))[..., :3] * 255
    mixed = (1 - _STRENGTH) * np.asarray(image.convert("RGB"), np.float64) + _STRENGTH * colours
    mixed[unseen] = 0.35 * np.asarray(image.convert("L"), np.float64)[unseen][:, None]
    return Image.fromarray(mixed.round().astype(np.uint8))


def _strength(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """0 to 1, NaN where there is no value."""
    largest = float(np.nanmax(heat))
    return np.clip(heat / largest, 0, 1) if largest > 0 else heat * 0


def sheet(explanation: Explanation) -> bytes:
    """PNG: the picture, then a map for each class, with names, probabilities and the scale of the colours."""
    panels = [("the picture", explanation.picture)] + [
        (f"{_short(shown.label)}  {shown.probability:.1%}", overlay(explanation.picture, shown))
        for shown in explanation.maps
    ]
    return _draw([panels], row_titles=None)


def grid(explanations: Sequence[Sequence[Explanation]], columns: Sequence[str]) -> tuple[bytes, str]:
    """Figure 7: a row a photo, a column a model, each with the map of its first class. (PNG, description)."""
    rows = []
    for of_photo in explanations:
        panels = [("the picture", of_photo[0].picture)]
        for found in of_photo:
            shown = found.maps[0]
            panels.append((f"{_short(shown.label)}  {shown.probability:.0%}", overlay(found.picture, shown)))
        rows.append(panels)
    description = (
        f"Class activation maps of {len(rows)} photos (rows) by {', '.join(columns)} (columns), each of the class named"
        " above it, with the model's probability."
    )
    return _draw(rows, row_titles=["", *columns]), description


def _draw(rows: list[list[tuple[str, Image.Image]]], row_titles: list[str] | None) -> bytes:
    from matplotlib.cm import ScalarMappable

    from compoundnet.plots.canvas import WIDTH, canvas, encode

    columns = max(len(row) for row in rows)
    heights = [max(image.height / image.width for _, image in row) * WIDTH / columns + _TITLE for row in rows]
    with canvas(height=sum(heights) + (_HEADING if row_titles else 0) + _LEGEND) as surface:
        grid_of_axes = surface.subplots(len(rows), columns, squeeze=False, height_ratios=heights)
        for number, row in enumerate(rows):
            for axes, (title, image) in zip(grid_of_axes[number], row, strict=True):
                _panel(axes, title, image)
        if row_titles:
            for axes, heading in zip(grid_of_axes[0], row_titles, strict=True):
                axes.set_title(f"{heading}\n{axes.get_title(loc='left')}", fontsize=9)
        mappable = ScalarMappable(cmap=_COLOURS)
        mappable.set_clim(0, 1)
        bar = surface.colorbar(
            mappable, ax=grid_of_axes.ravel().tolist(), orientation="horizontal", fraction=0.03, aspect=60, pad=0.02
        )
        bar.set_label(f"{_SCALE}; dark: outside the crop, not seen", fontsize=9)
        bar.ax.tick_params(labelsize=9)
        return encode(surface, "Class activation maps")[1]


def _panel(axes: Axes, title: str, image: Image.Image) -> AxesImage:
    small = image.copy()
    small.thumbnail((640, 640))
    axes.set_title(title, fontsize=9, pad=4)
    axes.axis("off")
    return axes.imshow(np.asarray(small))


def _short(label: str) -> str:
    first = label.partition(",")[0]
    return first if len(first) <= _LABEL else first[: _LABEL - 1] + "…"


def encode_png(image: Image.Image) -> bytes:
    """PNG."""
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()
