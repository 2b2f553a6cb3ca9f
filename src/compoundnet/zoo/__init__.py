"""The comparison networks of the paper that do not consist of stages: cells, dense blocks, Inceptions."""

from compoundnet.base.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
