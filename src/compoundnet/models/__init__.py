"""Models that are ready to use: pretrained weights by name, model folders, other libraries' weights, safe reading.

Torch is imported where tensors are, so `open_model` on a model that is there does without.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
