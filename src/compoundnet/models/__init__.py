"""Models that are ready to use: pretrained weights by name, model folders, exported files, other libraries' weights."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
