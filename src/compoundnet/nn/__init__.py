"""Torch modules built from networks; the only place where layers are written."""

from compoundnet.base.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
