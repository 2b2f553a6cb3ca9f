"""The tensors of a file compared with those of one network in one layout, by names and shapes alone."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from compoundnet.arch import Network
from compoundnet.base import CompoundNetError
from compoundnet.models import layouts
from compoundnet.models.layouts import Layout
from compoundnet.models.tensors import COUNTER, Shape, expected_tensors

CLASSIFIER, STEM = "classifier.", "stem.conv.weight"


class Match(msgspec.Struct, frozen=True):
    layout: Layout
    network: Network
    missing: tuple[str, ...]
    misshapen: tuple[str, ...]
    extra: tuple[str, ...]
    trunk: int

    @property
    def fits(self) -> bool:
        return not self.missing and not self.misshapen and not self.stray

    @property
    def apart(self) -> float:
        """The differing tensors as a share of the network's."""
        return (len(self.missing) + len(self.misshapen) + len(self.stray)) / self.trunk

    @property
    def stray(self) -> tuple[str, ...]:
        """Extra tensors that are named as parts of the trunk are: this is a smaller network than that of the file."""
        trunk = trunk_pairs(self.layout, self.network)
        roots = {_root(pair.theirs) for pair in trunk if pair.ours.startswith("stages.")}
        return tuple(name for name in self.extra if _root(name) in roots)


def _root(name: str) -> str:
    """`blocks` of `blocks.0.1.conv_dw.weight`, `block` of `block2a_dwconv/kernel`."""
    found = re.match(r"_?[A-Za-z]*", name)
    return found[0] if found else ""


def trunk_pairs(layout: Layout, network: Network) -> list[layouts.Pair]:
    return [pair for pair in layout.pairs(layout.adapt(network)) if not pair.ours.startswith(CLASSIFIER)]


def compare(shapes: Mapping[str, Shape], layout: Layout, network: Network, *, whole: bool = False) -> Match | None:
    """Compare everything but the classifier and the number of input channels.

    Returns:
        None if the layout has no such network, or (unless `whole`) if its first weight is not among the tensors.
    """
    try:
        pairs = layout.pairs(layout.adapt(network))
    except CompoundNetError:
        return None
    if not whole and all(pair.theirs not in shapes for pair in pairs if pair.ours == STEM):
        return None
    ours = expected_tensors(network)
    missing, misshapen, known = [], [], set()
    for pair in pairs:
        known.add(pair.theirs)
        if pair.ours.endswith(COUNTER) or pair.ours.startswith(CLASSIFIER):
            continue
        found = shapes.get(pair.theirs)
        if found is None:
            missing.append(pair.theirs)
        elif not _same(layouts.permuted(found, pair.axes), ours[pair.ours], stem=pair.ours == STEM):
            misshapen.append(pair.theirs)
    extra = tuple(
        name
        for name in shapes
        if name not in known and not name.endswith(COUNTER) and not re.fullmatch(layout.ignored, name)
    )
    return Match(layout, network, tuple(missing), tuple(misshapen), extra, len(ours))


def _same(found: Shape, expected: Shape, *, stem: bool) -> bool:
    if stem:  # the number of input channels is that of the file
        return len(found) == 4 and (found[0], *found[2:]) == (expected[0], *expected[2:])
    return found == expected
