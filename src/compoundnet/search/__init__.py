"""Searches: coefficients of compound scaling, the baseline network, the scaling studies of the paper, and sweeps."""

from compoundnet.base.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__, extra="search")
