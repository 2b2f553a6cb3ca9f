"""A local page that plans networks, classifies images, and shows which parts of them a class is based on."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
