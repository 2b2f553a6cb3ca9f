"""Layout and network of a weights file, told from the names and shapes of its tensors.

Each layout is compared with every network of the catalogue; then with each baseline at the depth and width that the
tensors show. What shapes cannot tell (padding, the names that two libraries share) is decided by the names of models
that the file states, or by what is more common, and said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from compoundnet import arch
from compoundnet.arch import Network
from compoundnet.base import CompoundNetError, shortened
from compoundnet.models import layouts
from compoundnet.models.layouts import Layout
from compoundnet.models.layouts.timm import timm_name
from compoundnet.models.matches import CLASSIFIER, STEM, Match, compare, holds_names, holds_stem
from compoundnet.models.multipliers import scaled, scaled_note
from compoundnet.models.tensors import Shape

# Of timm's pairs of models that differ in padding and eps alone, `tf_` is the one with weights on the hub for these.
_WITH_TENSORFLOW = re.compile(r"efficientnet-(b[5-9]|l2|lite[1-4])|efficientnetv2-(b\d|s|m|l|xl)")
_TIMM_NAME = re.compile(
    r"(?<![a-z])(tf[_-])?(efficientnet[_-](b\d|l2|lite\d|e[sml])|efficientnetv2[_-](b\d|s|m|l|xl))(?![a-z0-9])",
    re.IGNORECASE,
)
_MOST_NAMED = 3


class Hint(msgspec.Struct, frozen=True):
    """The name of a model that comes with the weights, and where it is: `("tf_efficientnet_b0", "args.model")`."""

    name: str
    place: str


class Recognition(msgspec.Struct, frozen=True):
    """What the tensors are.

    Attributes:
        layout: The name of the layout.
        network: The network, with the padding and norm of the layout, and the classes and input channels of the
            tensors; a trunk (`num_classes` 0) if there is no classifier.
        renamed: The classifier's tensors that have other names than the layout's: theirs, and the layout's.
        left_out: The tensors that belong to no part of the network.
        notes: A sentence for each choice that the tensors did not decide.
    """

    layout: str
    network: Network
    renamed: dict[str, str]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


def recognise(
    shapes: Mapping[str, Shape],
    source: str,
    *,
    layout: str | None = None,
    network: Network | None = None,
    hints: Sequence[Hint] = (),
    outside: Mapping[str, Shape] | None = None,
) -> Recognition:
    """Tell layout and network from names and shapes. Does not import torch.

    Args:
        shapes: The shape of each tensor, by name.
        source: The file, for messages.
        layout: The layout, if it is known.
        network: The network, if it is known.
        hints: Names of models that came with the weights.
        outside: Tensors beside those of the network, among which the classifier may be.

    Raises:
        CompoundNetError: No network known here has such tensors; the message names the nearest, and what differs.
    """
    tried = [layouts.layout(layout)] if layout is not None else list(layouts.LAYOUTS.values())
    networks = [network] if network is not None else list(arch.networks().values())
    present = [one for one in tried if layout is not None or _has_stem(one, shapes)]
    pairs = [(one, wanted) for one in present for wanted in networks]
    # Only those with all the names are compared in full: two or three of hundreds.
    named = [compare(shapes, *pair) for pair in pairs if holds_names(shapes, *pair)]
    fitting = [match for match in named if match is not None and match.fits]
    notes: list[str] = []
    if not fitting and network is None:
        resized = [match for one in present for match in scaled(shapes, one)]
        fitting = [match for match in resized if match.network == resized[0].network]
        notes += [scaled_note(match.network) for match in fitting[:1]]
    if not fitting:
        whole = layout is not None and network is not None
        begun = [pair for pair in pairs if whole or holds_stem(shapes, *pair)]
        matches = [match for pair in begun if (match := compare(shapes, *pair)) is not None]
        raise CompoundNetError(_unknown(shapes, source, matches, network, layout))
    chosen, why = _choose(fitting, hints)
    return _finished(shapes, outside or {}, chosen, (*notes, *why))


def _has_stem(layout: Layout, shapes: Mapping[str, Shape]) -> bool:
    return any(name in shapes for name in layouts.stem_names(layout.name))


def _choose(fitting: list[Match], hints: Sequence[Hint]) -> tuple[Match, list[str]]:
    """One of several layouts that have the same names and shapes, and why."""
    chosen = fitting[0]
    by_layout = {match.layout.name: match for match in fitting}
    if not {"timm", "timm-native"} <= by_layout.keys():
        return chosen, []
    name = chosen.network.name
    for hint in hints:
        found = _TIMM_NAME.search(hint.name)
        if found is not None:
            layout = "timm" if found[1] else "timm-native"
            return by_layout[layout], [f"took timm's {found[0]} (layout {layout}), as {hint.place} says"]
    for layout, other in (("timm", "timm-native"), ("timm-native", "timm")):
        if not timm_name(name, other):
            return by_layout[layout], []
    layout = "timm" if _WITH_TENSORFLOW.fullmatch(name) else "timm-native"
    other = "timm-native" if layout == "timm" else "timm"
    titles = {one: timm_name(name, one) for one in (layout, other)}
    sides = {"timm": "TensorFlow's padding, eps 1e-3", "timm-native": "symmetric padding, eps 1e-5"}
    return by_layout[layout], [
        f"timm's {titles[layout]} and {titles[other]} have the same tensors; took {titles[layout]} ({sides[layout]});"
        f" if it was {titles[other]} ({sides[other]}), give --layout {other}"
    ]


def _finished(
    shapes: Mapping[str, Shape], outside: Mapping[str, Shape], match: Match, notes: tuple[str, ...]
) -> Recognition:
    """Find the classifier, also under another name, and the input channels."""
    layout = match.layout
    network = layout.adapt(match.network.replace(num_classes=match.network.num_classes or 1))
    pairs = {pair.ours: pair for pair in layout.pairs(network)}
    stem = pairs[STEM]
    network = network.replace(in_channels=layouts.permuted(shapes[stem.theirs], stem.axes)[1])
    weight, bias = pairs[f"{CLASSIFIER}weight"], pairs[f"{CLASSIFIER}bias"]
    renamed: dict[str, str] = {}
    extra = list(match.extra)
    if not _is_last(layouts.permuted(shapes.get(weight.theirs, ()), weight.axes), {**outside, **_only(shapes, extra)}):
        inner = [name for name in (weight.theirs, bias.theirs) if name in shapes]
        found = _classifier(shapes, outside, extra, network.classifier_features) if not inner else None
        extra = [*inner, *extra]
        if found is not None:
            renamed = {f"{found}.weight": weight.theirs, f"{found}.bias": bias.theirs}
            extra = [name for name in extra if name not in renamed]
            notes = (*notes, f"took {found} as the classifier, instead of {weight.theirs.removesuffix('.weight')}")
    classes = _classes({name: shape for name, shape in shapes.items() if name not in extra}, outside, weight, renamed)
    if classes == 0 and extra:
        notes = (*notes, "found no single dense layer after the features: written without a classifier")
    if extra:
        notes = (*notes, f"left out what is no part of {network.name}: {shortened(extra, _MOST_NAMED)}")
    return Recognition(layout.name, network.replace(num_classes=classes), renamed, tuple(extra), notes)


def _is_last(shape: Shape, others: Mapping[str, Shape]) -> bool:
    """Whether a weight is that of a dense layer, and none of the others reads what it computes."""
    further = (other for name, other in others.items() if name.endswith(".weight") and len(other) == 2)
    return len(shape) == 2 and all(other[1] != shape[0] for other in further)


def _only(shapes: Mapping[str, Shape], names: Sequence[str]) -> dict[str, Shape]:
    return {name: shapes[name] for name in names}


def _classifier(
    shapes: Mapping[str, Shape], outside: Mapping[str, Shape], extra: Sequence[str], features: int
) -> str | None:
    """The one dense layer of that many features that is under another name; None if there is none, or further ones."""
    for where in (_only(shapes, extra), outside):
        dense = [
            name.removesuffix(".weight")
            for name, shape in where.items()
            if name.endswith(".weight") and len(shape) == 2
        ]
        fitting = [
            name for name in dense
            if where[f"{name}.weight"][1] == features and where.get(f"{name}.bias") == where[f"{name}.weight"][:1]
        ]  # fmt: skip
        if len(dense) == 1 and fitting and (where is outside or len(where) == 2):
            return fitting[0]
    return None


def _classes(
    shapes: Mapping[str, Shape], outside: Mapping[str, Shape], weight: layouts.Pair, renamed: Mapping[str, str]
) -> int:
    if renamed:
        name = next(iter(renamed))
        return (shapes.get(name) or outside[name])[0]
    found = layouts.permuted(shapes[weight.theirs], weight.axes) if weight.theirs in shapes else ()
    return found[0] if len(found) == 2 else 0


def _unknown(
    shapes: Mapping[str, Shape], source: str, matches: list[Match], network: Network | None, layout: str | None
) -> str:
    if not matches:
        names = ", ".join(list(shapes)[:_MOST_NAMED])
        known = ", ".join(layouts.LAYOUTS)
        what = f" in the layout {layout}" if layout is not None else ""
        which = network.name if network is not None else "network known here"
        return (
            f"{source} holds no {which}{what}: its {len(shapes)} tensors are named {names} and so on, which is none of"
            f" the layouts {known} (`compoundnet list` shows the networks)"
        )
    nearest = min(matches, key=lambda match: match.apart)
    extra = nearest.extra if network is not None and layout is not None else nearest.stray
    differing = ", ".join(
        f"{len(names)} {what} ({shortened(names, _MOST_NAMED)})"
        for names, what in ((nearest.missing, "missing"), (extra, "extra"), (nearest.misshapen, "misshapen"))
        if names
    )
    if network is not None and layout is not None:
        return f"{source} does not hold {network.name} in the layout {layout}. Of its tensors {differing}"
    none = f"{source} holds no network known here, as it is or scaled in depth and width" if network is None else (
        f"{source} does not hold {network.name}"
    )  # fmt: skip
    own = "" if network is not None else "; --network FILE.toml takes a network of your own"
    if nearest.apart > 0.5:
        names = ", ".join(list(shapes)[:_MOST_NAMED])
        return f"{none}: its {len(shapes)} tensors are named {names} and so on{own}"
    return f"{none}. The nearest is {nearest.network.name} in the layout {nearest.layout.name}: {differing}{own}"
