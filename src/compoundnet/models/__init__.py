"""Models that are ready to use: pretrained weights by name, model folders, exported files, other libraries' weights."""

from compoundnet.base.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
