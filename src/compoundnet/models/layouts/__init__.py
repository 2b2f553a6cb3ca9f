"""The weight layouts of other libraries, and the translation in both directions. See `base` for the term layout."""

from compoundnet.models.layouts.base import Layout
from compoundnet.models.layouts.translation import LAYOUTS, from_layout, layout, to_layout

__all__ = ["LAYOUTS", "Layout", "from_layout", "layout", "to_layout"]
