"""Running models: on images, as sessions of several backends, as files for other runtimes, against the clock."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
