"""From the network's grid back to the picture: preprocessing cuts the centre square out, and this puts it back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compoundnet.data.transforms import crop_box

# Zhou et al. 2016, section 3.2: the box of what is above this share of the map's maximum.
_BOX_SHARE = 0.2


def over_picture(heat: NDArray[np.float32], width: int, height: int, crop: float) -> NDArray[np.float32]:
    """A map float32[h, w] of the centre crop over the whole picture, float32[height, width], upsampled bilinearly.

    NaN outside the crop: the network has not seen it.
    """
    left, top, right, bottom = crop_box(width, height, crop)
    enlarged = Image.fromarray(heat).resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    whole = np.full((height, width), np.nan, np.float32)
    whole[top:bottom, left:right] = np.asarray(enlarged)
    return whole


def peak(heat: NDArray[np.float32]) -> tuple[int, int]:
    """(x, y) of the largest value, in pixels of the picture."""
    y, x = np.unravel_index(int(np.nanargmax(heat)), heat.shape)
    return int(x), int(y)


def box(heat: NDArray[np.float32]) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom of the largest connected region above a fifth of the maximum, as Zhou et al. localise.

    None where nothing speaks for the class: no value is above 0.
    """
    from scipy import ndimage

    seen = np.nan_to_num(heat, nan=0.0)
    if seen.max() <= 0:
        return None
    regions, _ = ndimage.label(seen >= _BOX_SHARE * seen.max())
    largest = int(np.bincount(regions.ravel())[1:].argmax()) + 1
    rows, columns = ndimage.find_objects(regions)[largest - 1]
    return columns.start, rows.start, columns.stop, rows.stop
