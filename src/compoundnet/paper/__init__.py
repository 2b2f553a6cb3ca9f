"""The paper's tables and figures: what it prints, beside what is measured here."""

from compoundnet.base.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
