"""What a model looks at: class activation maps (Zhou et al. 2016) and Grad-CAM, drawn over the pictures they are of."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
