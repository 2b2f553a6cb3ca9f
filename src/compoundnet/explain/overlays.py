"""A map over its image: evidence for the class is coloured, the rest is grey, and what the network did not see is dark.

The colours are matplotlib's `inferno`, whose lightness rises evenly, so that it is legible in greyscale and with any
colour vision.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from compoundnet.explain.maps import Array, ClassMap, over_image

# The darkest quarter of the colours is omitted, because it would hide the image where there is little evidence.
_DARKEST = 0.25
# Opacity of the colour at the maximum of the map.
_COVER = 0.75
UNSEEN = 0.35


def overlay(image: Image.Image, shown: ClassMap) -> Image.Image:
    """Draw a class's map over the image, or over a smaller version of it: RGB, of the size given."""
    heat = over_image(shown.grid, shown.frame, shown.size, image.size)
    unseen = np.isnan(heat)
    grey = np.asarray(image.convert("L"), np.float32)[..., None]
    mixed = coloured(grey, _share(heat, shown.maximum))
    mixed[unseen] = UNSEEN * grey[unseen]
    return Image.fromarray(mixed.round().astype(np.uint8))


def coloured(grey: Array, share: Array) -> Array:
    """Colour grey pixels float32[H, W, 1], 0 to 255, by fractions float32[H, W], 0 to 1; return float32[H, W, 3]."""
    clear, colour = _inks()
    steps = (share * 255).round().astype(np.uint8)
    return clear[steps][..., None] * grey + colour[steps]


def _share(heat: Array, maximum: float) -> Array:
    """A map as a fraction of its maximum, 0 to 1; 0 where it is negative or where the network saw nothing."""
    if maximum <= 0:
        return np.zeros_like(heat)
    share: Array = np.nan_to_num(heat / np.float32(maximum), nan=0.0).clip(0, 1)
    return share


def mark(drawn: Image.Image, shown: ClassMap) -> None:
    """Draw the peak as a ring and the box as a frame onto an overlay, white on black so that they are visible anywhere.

    If no value is positive, neither is drawn.
    """
    if shown.box is None:
        return
    pen = ImageDraw.Draw(drawn)
    across, down = drawn.width / shown.size[0], drawn.height / shown.size[1]
    thin = max(1, round(max(drawn.size) / 300))
    x, y = (shown.peak[0] + 0.5) * across, (shown.peak[1] + 0.5) * down
    radius = 5 * thin
    for width, colour, grown in ((3 * thin, "black", thin), (thin, "white", 0)):
        left, top, right, bottom = shown.box
        x_first, y_first = left * across, top * down
        x_last, y_last = max(x_first, right * across - 1), max(y_first, bottom * down - 1)
        frame = (x_first - grown, y_first - grown, x_last + grown, y_last + grown)
        pen.rectangle(frame, outline=colour, width=width)
        ring = (x - radius - grown, y - radius - grown, x + radius + grown, y + radius + grown)
        pen.ellipse(ring, outline=colour, width=width)


@cache
def _inks() -> tuple[Array, Array]:
    """For each of 256 fractions, the weight of the image, float32[256], and the added colour, float32[256, 3]."""
    from matplotlib import colormaps  # noqa: PLC0415  slow to import, and needed only when something is drawn

    cover = _COVER * np.sqrt(np.linspace(0, 1, 256))
    colours = 255 * colormaps["inferno"](np.linspace(_DARKEST, 1, 256))[:, :3]
    return (1 - cover).astype(np.float32), (cover[:, None] * colours).astype(np.float32)
