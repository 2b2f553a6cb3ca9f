"""The sweep of `train --sweep`: learning rate and weight decay chosen on held-out training images."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
