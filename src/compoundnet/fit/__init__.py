"""Eq. 2 on one's own images: the most accurate classifier within a budget, from measurements on this machine."""

from compoundnet.base.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__, extra="search")
