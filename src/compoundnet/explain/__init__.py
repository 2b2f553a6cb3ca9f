"""What a model looks at: class activation maps (Zhou et al. 2016) and Grad-CAM, drawn over the pictures they are of."""

from compoundnet.explain.drawing import overlay
from compoundnet.explain.explainer import METHODS, Explainer, explain
from compoundnet.explain.maps import ClassMap, Explanation
from compoundnet.explain.sheet import ROWS, card, grid, sheet
from compoundnet.explain.undo import BOX_SHARE

__all__ = [
    "BOX_SHARE",
    "METHODS",
    "ROWS",
    "ClassMap",
    "Explainer",
    "Explanation",
    "card",
    "explain",
    "grid",
    "overlay",
    "sheet",
]
