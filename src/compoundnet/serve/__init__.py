"""A local web page that plans networks, classifies images, and shows the image regions behind a prediction."""

from compoundnet.base.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__, extra="serve")
