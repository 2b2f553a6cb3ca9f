"""The weight layouts of other libraries, and the translation in both directions. See `base` for the term layout."""

from compoundnet.base import CompoundNetError, did_you_mean
from compoundnet.models.layouts import keras, lukemelas, tensorflow, timm, torchvision, transformers
from compoundnet.models.layouts.base import Layout
from compoundnet.models.layouts.translation import from_layout, to_layout

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        timm.TIMM,
        timm.TIMM_NATIVE,
        torchvision.LAYOUT,
        lukemelas.LAYOUT,
        transformers.LAYOUT,
        keras.LAYOUT,
        tensorflow.LAYOUT,
    )
}


def layout(name: str) -> Layout:
    """The layout of that name. Raises CompoundNetError with the nearest names."""
    if name not in LAYOUTS:
        raise CompoundNetError(f"there is no layout named {name!r}{did_you_mean(name, LAYOUTS)}")
    return LAYOUTS[name]


__all__ = ["LAYOUTS", "Layout", "from_layout", "layout", "to_layout"]
