"""A local web page that plans networks and explains predictions, and an HTTP service that classifies images."""

from compoundnet.base.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__, extra="serve")
