"""The tensors of a file compared with those of one network in one layout, by names and shapes alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import msgspec

from compoundnet.arch import Network
from compoundnet.base import CompoundNetError
from compoundnet.models import layouts
from compoundnet.models.layouts import Layout
from compoundnet.models.tensors import COUNTER, Shape, expected_tensors

CLASSIFIER, STEM = "classifier.", "stem.conv.weight"


class Match(msgspec.Struct, frozen=True):
    """What differs.

    Attributes:
        layout: The layout.
        network: The network.
        missing: The network's tensors that the file lacks, under the layout's names.
        misshapen: Those of another shape.
        extra: The file's tensors that the network lacks.
        stray: Extra tensors that are named as parts of the stages are: this network is smaller than that of the file.
        trunk: How many tensors the network has.
    """

    layout: Layout
    network: Network
    missing: tuple[str, ...]
    misshapen: tuple[str, ...]
    extra: tuple[str, ...]
    stray: tuple[str, ...]
    trunk: int

    @property
    def fits(self) -> bool:
        return not self.missing and not self.misshapen and not self.stray

    @property
    def apart(self) -> float:
        """The differing tensors as a share of the network's."""
        return (len(self.missing) + len(self.misshapen) + len(self.stray)) / self.trunk


def _root(name: str) -> str:
    """`blocks` of `blocks.0.1.conv_dw.weight`, `block` of `block2a_dwconv/kernel`."""
    found = re.match(r"_?[A-Za-z]*", name)
    return found[0] if found else ""


def trunk_pairs(layout: Layout, network: Network) -> Iterator[layouts.Pair]:
    """The tensors of all but the classifier. Raises CompoundNetError at a block that the layout lacks."""
    return (pair for pair in layout.each_pair(layout.adapt(network)) if not pair.ours.startswith(CLASSIFIER))


def holds_names(shapes: Mapping[str, Shape], layout: Layout, network: Network) -> bool:
    """Whether all tensors of a trunk are there by name. Ends at the first that is not, which `compare` does not."""
    try:
        return all(pair.theirs in shapes for pair in trunk_pairs(layout, network) if not pair.ours.endswith(COUNTER))
    except CompoundNetError:
        return False


def holds_stem(shapes: Mapping[str, Shape], layout: Layout, network: Network) -> bool:
    """Whether the layout has such a network, and its first weight is there by name."""
    try:
        return any(pair.theirs in shapes for pair in layout.pairs(layout.adapt(network)) if pair.ours == STEM)
    except CompoundNetError:
        return False


def compare(shapes: Mapping[str, Shape], layout: Layout, network: Network) -> Match | None:
    """Compare all but the classifier and the number of input channels; None if the layout has no such network."""
    try:
        pairs = layout.pairs(layout.adapt(network))
    except CompoundNetError:
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
    roots = {_root(pair.theirs) for pair in pairs if pair.ours.startswith("stages.")} if extra else set()
    stray = tuple(name for name in extra if _root(name) in roots)
    return Match(layout, network, tuple(missing), tuple(misshapen), extra, stray, len(ours))


def _same(found: Shape, expected: Shape, *, stem: bool) -> bool:
    if stem:  # the number of input channels is that of the file
        return len(found) == 4 and (found[0], *found[2:]) == (expected[0], *expected[2:])
    return found == expected
