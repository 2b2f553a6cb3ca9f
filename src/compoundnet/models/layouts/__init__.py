"""The weight layouts of other libraries, and the translation in both directions. See `base` for the term layout."""

from functools import cache

from compoundnet import arch
from compoundnet.base import CompoundNetError
from compoundnet.models.layouts.base import Layout, Pair
from compoundnet.models.layouts.translation import LAYOUTS, from_layout, layout, permuted, to_layout


@cache
def stem_names(name: str) -> frozenset[str]:
    """The names of a network's first weight in a layout, which may differ by network."""
    found, of = set(), layout(name)
    for network in arch.networks().values():
        try:
            first = next(iter(of.modules(of.adapt(network))))
        except CompoundNetError:
            continue
        found.add(first.theirs + of.leaves["conv"][0].theirs)
    return frozenset(found)


@cache
def bodies() -> dict[str, str]:
    """The name of the first weight in a library's model without a classifier, and what the name lacks in front."""
    return {
        stem.removeprefix(body): body
        for one in LAYOUTS.values()
        for body in one.bodies
        for stem in stem_names(one.name)
        if stem.startswith(body)
    }


__all__ = ["LAYOUTS", "Layout", "Pair", "bodies", "from_layout", "layout", "permuted", "stem_names", "to_layout"]
