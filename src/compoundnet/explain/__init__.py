"""What a model looks at: class activation maps (Zhou et al. 2016), drawn over the pictures they are of."""

from compoundnet.explain.drawing import grid, overlay, sheet
from compoundnet.explain.maps import ClassMap, Explainer, Explanation

__all__ = ["ClassMap", "Explainer", "Explanation", "grid", "overlay", "sheet"]
