"""The paper's tables and figures: what it prints, and what is measured here beside it."""

from compoundnet.base.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
