"""Torch modules built from networks; the only package that defines layers."""

from compoundnet.base.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
