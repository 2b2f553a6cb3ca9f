"""What a model looks at: class activation maps (Zhou et al. 2016) and Grad-CAM, drawn over the pictures they are of."""

from compoundnet.explain.drawing import overlay
from compoundnet.explain.drawn import Drawn
from compoundnet.explain.explainer import METHODS, Explainer
from compoundnet.explain.maps import ClassMap, Explanation
from compoundnet.explain.sheet import ROWS, card, grid, sheet
from compoundnet.explain.subject import Subject, find_subject
from compoundnet.explain.undo import BOX_SHARE

__all__ = [
    "BOX_SHARE",
    "METHODS",
    "ROWS",
    "ClassMap",
    "Drawn",
    "Explainer",
    "Explanation",
    "Subject",
    "card",
    "find_subject",
    "grid",
    "overlay",
    "sheet",
]
