"""Pictures: reading and preparing them, the data sets they come in, and the loader that feeds training.

Nothing here imports torch but `data.loader` and the pixel work it calls, which are imported by their own names.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
