"""Searches: the coefficients of compound scaling, the baseline network, the paper's scaling studies, and sweeps."""

from compoundnet.base.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__, extra="search")
