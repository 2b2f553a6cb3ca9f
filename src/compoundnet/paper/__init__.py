"""The paper's tables and figures: what it prints, and what is measured here beside it."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
