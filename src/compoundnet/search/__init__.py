"""Searches: the coefficients of compound scaling, the baseline network, the paper's scaling studies, and sweeps."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
