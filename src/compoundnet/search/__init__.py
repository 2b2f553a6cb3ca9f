"""Both searches of the paper: the coefficients of compound scaling, and the baseline network. Loaded where used."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
