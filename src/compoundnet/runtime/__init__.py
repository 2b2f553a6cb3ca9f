"""Running models: on images, as sessions of several backends, as files for other runtimes, against the clock."""

from compoundnet.base.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
