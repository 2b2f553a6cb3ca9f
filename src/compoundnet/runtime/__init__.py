"""Running models: prediction, sessions on several backends, export to other runtimes, timing."""

from compoundnet.base.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
