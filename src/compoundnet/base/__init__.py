"""The ground floor: errors, whole-file writing, units, plain values, the machine, progress.

`base.machine` and `base.images` must be imported explicitly, because `arch` does not need their dependencies.
"""

from compoundnet.base.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
