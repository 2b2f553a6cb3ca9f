"""Explanations of predictions by image regions: class activation maps (Zhou et al. 2016) and Grad-CAM."""

from compoundnet.base.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__, extra="explain")
