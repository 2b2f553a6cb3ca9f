"""Networks as data, and the paper's method as functions on them. Imports only msgspec and the standard library."""

from compoundnet.base.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
