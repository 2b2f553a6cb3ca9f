"""Data: reading and preparing images, data sets, and the loader of training.

Only `data.loader` and the pixel operations that it calls import torch.
"""

from compoundnet.base.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
