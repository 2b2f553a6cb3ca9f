"""A local page that plans networks, classifies images, and shows which parts of them a class is based on."""

from compoundnet.base.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__, extra="serve")
