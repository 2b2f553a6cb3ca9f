"""The ground floor: errors, whole-file writing, units, plain values, the machine, the cache's place, progress.

`base.machine` and `base.cache` are imported by their own names: `arch` needs the standard library and msgspec only.
"""

from compoundnet.base.extras import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
