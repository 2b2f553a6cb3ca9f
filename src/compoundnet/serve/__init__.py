"""A page on this machine that plans networks and shows what a model sees in a photo."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
