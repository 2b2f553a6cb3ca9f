"""Images: reading and preparing them, the data sets they come in, and the loader that feeds training.

Importing any of it does not import torch, except for `data.loader` and the pixel operations that it calls.
"""

from compoundnet.base.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
