"""The ground floor: errors, whole-file writing, units, plain values, the machine, progress.

`base.machine` and `base.images` are imported by their own names: what they need, `arch` does without.
"""

from compoundnet.base.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
