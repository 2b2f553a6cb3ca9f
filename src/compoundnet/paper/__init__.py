"""The tables and figures of the paper: printed values next to measurements."""

from compoundnet.base.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
