"""Running models: on pictures, as sessions of several backends, and as files for other runtimes."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
