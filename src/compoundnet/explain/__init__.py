"""Which parts of an image a model bases a class on: class activation maps (Zhou et al. 2016) and Grad-CAM."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
