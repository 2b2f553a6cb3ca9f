"""The weight layouts of other libraries, and the translation in both directions. See `base` for the term layout."""

from functools import cache

from compoundnet import arch
from compoundnet.base import CompoundNetError
from compoundnet.models.layouts.base import Layout, Pair
from compoundnet.models.layouts.translation import LAYOUTS, from_layout, layout, permuted, to_layout


@cache
def stem_names(name: str) -> frozenset[str]:
    """The names of a network's first weight in a layout, which may differ by family."""
    found, of = set(), layout(name)
    for members in arch.families().values():
        try:
            first = next(iter(of.modules(of.adapt(next(iter(members.values()))))))
        except CompoundNetError:
            continue
        found.add(first.theirs + of.leaves["conv"][0].theirs)
    return frozenset(found)


__all__ = ["LAYOUTS", "Layout", "Pair", "from_layout", "layout", "permuted", "stem_names", "to_layout"]
