from .drawing import overlay
from .drawn import Drawn
from .explainer import METHODS, Explainer
from .maps import ClassMap, Explanation
from .sheet import ROWS, card, grid, sheet
from .subject import Subject, find_subject
from .undo import BOX_SHARE

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
