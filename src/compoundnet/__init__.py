"""compoundnet: balance a ConvNet's depth, width and resolution with one coefficient (Tan & Le, ICML 2019).

Every name is loaded on first use, from `__init__.pyi`, so that planning a network never imports torch.
"""

from compoundnet.base.extras import attach

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = attach(__name__, __file__)
