"""The paper's comparison networks that are not made of stages: cells, dense blocks, Inceptions."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
