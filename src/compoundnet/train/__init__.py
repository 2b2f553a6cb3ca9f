"""Training and evaluation: recipes as data, the loop, checkpoints, results."""

from compoundnet.base.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__, extra="train")
